# SPDX-License-Identifier: Apache-2.0
"""A rank whose steps with requests take long, as on a host that is busy, or beside a long prompt."""

from __future__ import annotations

import functools
import time
from typing import Any

from survey.asks import SLOW_STEP


def install() -> None:
    """Slows the workers down that this process forks."""
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    execute_model = NPUModelRunner.execute_model

    @functools.wraps(execute_model)
    def slow(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        if scheduler_output.total_num_scheduled_tokens:
            time.sleep(SLOW_STEP)
        return execute_model(self, scheduler_output, *args, **kwargs)

    NPUModelRunner.execute_model = slow
