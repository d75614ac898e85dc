# SPDX-License-Identifier: Apache-2.0
"""The MoE communication that somebody else's code chooses, by a method in place of upstream's own of the runner.

verl does so where trainer and rollout share a card, on which an A2 has no MC2 (verl/utils/vllm/npu_vllm_patch.py).
"""

from __future__ import annotations

from typing import Any, Optional
from weakref import WeakValueDictionary

_UPSTREAM = "vllm_ascend.worker.model_runner_v1"
# By the identity of its configuration, which a runner keeps.
_runners: WeakValueDictionary[int, Any] = WeakValueDictionary()


def ask_from_now_on(runner: Any) -> None:
    """Ask this runner about forwards with its configuration."""
    _runners[id(runner.vllm_config)] = runner


def replaced_choice(vllm_config: Any, max_num_tokens: int, with_prefill: bool) -> Optional[Any]:
    """The ``MoECommType`` that a method in place of upstream's gives for a step; None where the method is upstream's.

    ``max_num_tokens`` are those of the largest rank, and ``with_prefill`` says that some rank has a prefill, so that
    each rank is told the same.
    """
    runner = _runners.get(id(vllm_config))
    if runner is None or type(runner)._select_moe_comm_method.__globals__["__name__"] == _UPSTREAM:
        return None
    return runner._select_moe_comm_method(max_num_tokens, with_prefill)
