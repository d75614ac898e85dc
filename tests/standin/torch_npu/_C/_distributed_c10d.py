# SPDX-License-Identifier: Apache-2.0
"""The HCCL process group, under the name the compiled module gives it."""

from torch_npu.collectives import ProcessGroupHCCL

__all__ = ["ProcessGroupHCCL"]
