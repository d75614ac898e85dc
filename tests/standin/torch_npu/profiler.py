# SPDX-License-Identifier: Apache-2.0
"""``torch_npu.profiler``: torch's own profiler, with the Ascend-only settings accepted and ignored."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch.profiler

tensorboard_trace_handler = torch.profiler.tensorboard_trace_handler


class ProfilerActivity(Enum):
    CPU = torch.profiler.ProfilerActivity.CPU
    NPU = torch.profiler.ProfilerActivity.CUDA


class ProfilerLevel(Enum):
    Level0 = 0
    Level1 = 1
    Level2 = 2


class ExportType(Enum):
    Text = "text"
    Db = "db"


class AiCMetrics(Enum):
    AiCoreNone = "ACL_AICORE_NONE"
    PipeUtilization = "ACL_AICORE_PIPE_UTILIZATION"


class _ExperimentalConfig:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class profile(torch.profiler.profile):
    def __init__(self, *, activities: Any = None, experimental_config: Any = None, **kwargs: Any) -> None:
        super().__init__(activities=[torch.profiler.ProfilerActivity.CPU], **kwargs)


class dynamic_profile:
    """A module in torch_npu: what msMonitor's daemon may switch on, and does not here."""

    @staticmethod
    def step() -> None:
        """Marks a step."""
