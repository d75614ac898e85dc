# SPDX-License-Identifier: Apache-2.0
"""Normalisation and activation operators (Ascend Extension for PyTorch, API reference: npu_rms_norm and others)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from torch_npu.library import npu_op


def rms(x: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """(x / rms(x) * gamma in x's dtype, 1 / rms(x) in float32 with a last dimension of 1)."""
    wide = x.float()
    rstd = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + epsilon)
    return (wide * rstd * gamma.float()).to(x.dtype), rstd


@npu_op("npu_rms_norm(Tensor self, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor)")
def npu_rms_norm(x: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """x [..., hidden], gamma [hidden] -> (normed, rstd [..., 1])."""
    return rms(x, gamma, epsilon)


@npu_op("npu_add_rms_norm(Tensor x1, Tensor x2, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor, Tensor)")
def npu_add_rms_norm(x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """x1 and x2 [..., hidden], gamma [hidden] -> (normed sum, rstd [..., 1], sum)."""
    total = x1 + x2
    normed, rstd = rms(total, gamma, epsilon)
    return normed, rstd, total


@npu_op("npu_swiglu(Tensor self, int dim=-1) -> Tensor")
def npu_swiglu(x: Tensor, dim: int = -1) -> Tensor:
    """silu of the first half of `dim`, times the second half."""
    gate, up = x.chunk(2, dim=dim)
    return silu(gate) * up


@npu_op("npu_fast_gelu(Tensor self) -> Tensor")
def npu_fast_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), which Ascend documents as x / (1 + exp(-1.702 |x|)) * exp(0.851 (x - |x|))."""
    return x * torch.sigmoid(1.702 * x)


@npu_op('npu_gelu(Tensor self, *, str approximate="none") -> Tensor')
def npu_gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """torch's gelu."""
    return gelu(x, approximate=approximate)
