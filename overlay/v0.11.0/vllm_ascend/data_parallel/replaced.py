# SPDX-License-Identifier: Apache-2.0
"""The MoE communication that somebody else's code chooses, by a method in place of upstream's own of the runner.

verl does so where trainer and rollout share a card, on which an A2 has no MC2 (verl/utils/vllm/npu_vllm_patch.py).
"""

from __future__ import annotations

from typing import Any, Optional
from weakref import WeakValueDictionary

from vllm_ascend.data_parallel.foreign import is_foreign

# By the identity of its configuration, which a runner keeps.
_runners: WeakValueDictionary[int, Any] = WeakValueDictionary()


def ask_from_now_on(runner: Any) -> None:
    """Ask this runner about forwards with its configuration."""
    _runners[id(runner.vllm_config)] = runner


def replaced_choice(vllm_config: Any, max_num_tokens: int, with_prefill: bool) -> Optional[Any]:
    """The ``MoECommType`` of the runner's method for a step, where that or a part of the step is another program's;
    None where all is upstream's, whose steps ask the forward context alone.

    ``max_num_tokens`` are those of the largest rank, and ``with_prefill`` says that some rank has a prefill, so that
    each rank is told the same.
    """
    runner = _runners.get(id(vllm_config))
    if runner is None or not (is_foreign(runner._select_moe_comm_method) or runner._steps_are_foreign):
        return None
    return runner._select_moe_comm_method(max_num_tokens, with_prefill)
