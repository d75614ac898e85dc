# SPDX-License-Identifier: Apache-2.0
"""The older names of what is in ``torchair.scope``."""

from torchair.scope import npu_stream_switch as NpuStreamSwitch
from torchair.scope import npu_wait_tensor

__all__ = ["NpuStreamSwitch", "npu_wait_tensor"]
