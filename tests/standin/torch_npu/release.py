# SPDX-License-Identifier: Apache-2.0
"""Which torch_npu the stand-in plays: the one of the torch that it runs on."""

from __future__ import annotations

import torch

_torch = torch.__version__.partition("+")[0]

VERSION = _torch
# torch_npu 2.9 goes with vllm-ascend 0.18.0, which needs the kernels of its own build; older releases do without.
HAS_KERNELS = tuple(map(int, _torch.split(".")[:2])) >= (2, 9)
CANN = "8.5.1" if HAS_KERNELS else "8.2.RC1"
