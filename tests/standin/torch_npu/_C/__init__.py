# SPDX-License-Identifier: Apache-2.0
"""Names that callers import from torch_npu's compiled module."""

from torch import Tensor

from torch_npu.graph import TaskGroup as _NPUTaskGroupHandle

__all__ = ["_NPUTaskGroupHandle", "_weak_ref_tensor"]


def _weak_ref_tensor(tensor: Tensor) -> Tensor:
    """A tensor that does not keep its memory; here it does, and is the same one."""
    return tensor
