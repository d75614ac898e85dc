# SPDX-License-Identifier: Apache-2.0
"""Names that callers import from torch_npu's compiled module."""

from torch_npu.graph import TaskGroup as _NPUTaskGroupHandle

__all__ = ["_NPUTaskGroupHandle"]
