# SPDX-License-Identifier: Apache-2.0
"""Which torch_npu the stand-in plays: the one of vllm-ascend 0.23.0."""

from __future__ import annotations

VERSION = "2.10.0"
HAS_KERNELS = True
CANN = "9.1.0"
