# SPDX-License-Identifier: Apache-2.0
"""Keeps the engines of a model whose ranks decide alone in step: vLLM's loop relies on that.

In vLLM the engines ask each other in every 32nd step whether one still has requests, and wait there. Between two such
questions the collectives of a step keep them together. Without any an engine that is idle, or faster, would be at the
next question at once, and there take no request until the slowest has made its 32 steps. So where a step has no
collective, the engines ask after every step: an idle one then looks for requests once a step of the others.

Where a coordinator wakes engines for a request, all pause as soon as the last one ends. Without it, as where each rank
of a script has its own LLM, they pause where vLLM's loop does: requests come to an engine one by one, and no other one
that has paused between two of them would come to its steps.
"""

from __future__ import annotations

import functools
from typing import Any, Optional

from vllm import envs
from vllm.config import ParallelConfig
from vllm.v1.engine.core import DPEngineCoreProc

from vllm_ascend.data_parallel.foreign import is_foreign

_PLUGIN = "ascend_enhanced_model"
"""Upstream's entry point that loads this module."""


def engines_ask_each_step() -> bool:
    """Whether engines whose workers are other processes ask: vLLM leaves plugins out that are not among those that the
    user names, so that this module is not loaded, and another program may have put its own loop in the place of ours.
    """
    named: Optional[list[str]] = envs.VLLM_PLUGINS
    ours = (DPEngineCoreProc.run_busy_loop, DPEngineCoreProc._has_global_unfinished_reqs)
    return (named is None or _PLUGIN in named) and not any(map(is_foreign, ours))


def must_agree(worker: Any) -> bool:
    """Whether the steps of a worker depend on the other ranks' batches, which keeps them in step.

    A worker of the user's own class, with a runner that is not upstream's, leaves vLLM's loop as it is.
    """
    return getattr(getattr(worker, "model_runner", None), "_must_agree", True)


def deciding_alone(run_busy_loop: Any) -> Any:
    """vLLM's own loop, by which the engine first asks its workers whether they decide alone."""

    @functools.wraps(run_busy_loop)
    def run(self: Any) -> None:
        self.decides_alone = not any(self.collective_rpc(must_agree))
        run_busy_loop(self)

    return run


def asking_each_step(has_unfinished: Any) -> Any:
    """vLLM's own question, which an engine whose workers decide alone asks after every step."""

    @functools.wraps(has_unfinished)
    def asked(self: Any, local_unfinished: bool) -> bool:
        if not getattr(self, "decides_alone", False):  # an engine of the user's own class may have its own loop
            return has_unfinished(self, local_unfinished)  # type: ignore[no-any-return]
        unfinished = ParallelConfig.has_unfinished_dp(self.dp_group, local_unfinished)
        if not self.has_coordinator:
            return has_unfinished(self, unfinished)  # type: ignore[no-any-return]
        self.step_counter = getattr(self, "step_counter", 0) + 1  # told with counts of requests, from 0.10.1 on
        return unfinished  # type: ignore[no-any-return]

    return asked


DPEngineCoreProc.run_busy_loop = deciding_alone(DPEngineCoreProc.run_busy_loop)
DPEngineCoreProc._has_global_unfinished_reqs = asking_each_step(DPEngineCoreProc._has_global_unfinished_reqs)
