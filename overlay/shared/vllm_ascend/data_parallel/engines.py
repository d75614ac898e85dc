# SPDX-License-Identifier: Apache-2.0
"""Bounds the one collective of the DP ranks that lies outside of a step, and in vLLM.

Between steps vLLM's engines agree whether any of them has requests left. Where an engine runs its worker in its own
process, as it does without tensor and pipeline parallelism, that wait is watched like a step.
"""

from __future__ import annotations

import functools
from typing import Any

from vllm.config import ParallelConfig

from vllm_ascend.data_parallel.watching import flight_of_process

_agree_on_requests = ParallelConfig.has_unfinished_dp


@functools.wraps(_agree_on_requests)
def has_unfinished_dp(*args: Any, **kwargs: Any) -> bool:
    """vLLM's own, watched."""
    with flight_of_process().engines():
        return _agree_on_requests(*args, **kwargs)  # type: ignore[no-any-return]


ParallelConfig.has_unfinished_dp = staticmethod(has_unfinished_dp)
