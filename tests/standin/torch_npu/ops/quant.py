# SPDX-License-Identifier: Apache-2.0
"""int8 quantisation: of activations, of matrix products, and fused with norms and activations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from torch_npu.library import npu_op
from torch_npu.ops.matmul import COUNTS, group_bounds
from torch_npu.ops.norm import rms

_LOWEST, _HIGHEST = -128, 127


def _to_int8(x: Tensor) -> Tensor:
    return x.round().clamp(_LOWEST, _HIGHEST).to(torch.int8)


def _by_row(x: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 [rows, n], float32 scale [rows]): each row's largest magnitude becomes 127."""
    wide = x.float()
    scale = wide.abs().amax(dim=-1) / _HIGHEST
    return _to_int8(wide / scale.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)), scale


@npu_op(
    "npu_dynamic_quant(Tensor input, *, Tensor? smooth_scales=None, Tensor? group_index=None, "
    "ScalarType? dst_type=None) -> (Tensor, Tensor)"
)
def npu_dynamic_quant(
    x: Tensor,
    *,
    smooth_scales: Tensor | None = None,
    group_index: Tensor | None = None,
    dst_type: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """x [..., n] -> (int8 [..., n], float32 scale [...]), a scale for each row."""
    if group_index is not None or dst_type not in (None, torch.int8):
        raise NotImplementedError("npu_dynamic_quant: only to int8, without groups")
    return _by_row(x if smooth_scales is None else x * smooth_scales)


@npu_op(
    "npu_quantize(Tensor self, Tensor scales, Tensor? zero_points, ScalarType dtype, int axis=1, bool div_mode=True) "
    "-> Tensor"
)
def npu_quantize(
    x: Tensor, scales: Tensor, zero_points: Tensor | None, dtype: torch.dtype, axis: int = 1, div_mode: bool = True
) -> Tensor:
    """x / scales + zero_points, or x * scales + zero_points without `div_mode`, rounded to int8; along the last
    axis."""
    if dtype not in (torch.qint8, torch.int8) or axis not in (-1, x.dim() - 1):
        raise NotImplementedError(f"npu_quantize: to {dtype} along axis {axis}")
    scaled = x.float() / scales.float() if div_mode else x.float() * scales.float()
    return _to_int8(scaled if zero_points is None else scaled + zero_points.float())


def _column_scale(scale: Tensor) -> Tensor:
    """float32; an int64 scale holds the bits of one in its low half."""
    return scale.view(torch.float32)[..., ::2] if scale.dtype == torch.int64 else scale.float()


@npu_op(
    "npu_quant_matmul(Tensor x1, Tensor x2, Tensor scale, *, Tensor? offset=None, Tensor? pertoken_scale=None, "
    "Tensor? bias=None, ScalarType? output_dtype=None) -> Tensor"
)
def npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    offset: Tensor | None = None,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """int8 x1 [rows, k] @ int8 x2 [k, n], plus an int32 bias, times scale [n] or [1] and pertoken_scale [rows]; another
    bias is added at the end."""
    if offset is not None or output_dtype is None or not output_dtype.is_floating_point:
        raise NotImplementedError("npu_quant_matmul: only with a floating output_dtype and no offset")
    product = x1.to(torch.int32) @ x2.to(torch.int32)
    integer_bias = bias is not None and bias.dtype == torch.int32
    if bias is not None and integer_bias:
        product = product + bias
    out = product.float() * _column_scale(scale)
    if pertoken_scale is not None:
        out = out * pertoken_scale.float().unsqueeze(-1)
    if bias is not None and not integer_bias:
        out = out + bias.float()
    return out.to(output_dtype)


@npu_op(
    "npu_dequant_swiglu_quant(Tensor x, *, Tensor? weight_scale=None, Tensor? activation_scale=None, Tensor? "
    "bias=None, "
    "Tensor? quant_scale=None, Tensor? quant_offset=None, Tensor? group_index=None, bool activate_left=False, "
    "int quant_mode=0) -> (Tensor, Tensor)",
    reads_data=True,
)
def npu_dequant_swiglu_quant(
    x: Tensor,
    *,
    weight_scale: Tensor | None = None,
    activation_scale: Tensor | None = None,
    bias: Tensor | None = None,
    quant_scale: Tensor | None = None,
    quant_offset: Tensor | None = None,
    group_index: Tensor | None = None,
    activate_left: bool = False,
    quant_mode: int = 0,
) -> tuple[Tensor, Tensor]:
    """int32 x [rows, 2 * n], weight_scale [2 * n] or by group [groups, 2 * n], activation_scale [rows], group_index
    counts [groups] -> swiglu of the product, quantised by row: (int8 [rows, n], float32 scale [rows])."""
    if quant_mode != 1 or quant_scale is not None or quant_offset is not None or bias is not None:
        raise NotImplementedError("npu_dequant_swiglu_quant: only dynamic quantisation without bias")
    wide = x.float()
    if weight_scale is not None:
        by_row = weight_scale.float()
        if group_index is not None:
            ends = torch.tensor(group_bounds(group_index, COUNTS))
            group = torch.bucketize(torch.arange(x.shape[0]), ends, right=True).clamp(max=len(ends) - 1)
            by_row = by_row.view(len(ends), -1)[group]
        wide = wide * by_row
    if activation_scale is not None:
        wide = wide * activation_scale.float().view(-1, 1)
    left, right = wide.chunk(2, dim=-1)
    return _by_row(silu(left) * right if activate_left else left * silu(right))


@npu_op(
    "_npu_quant_rms_norm(Tensor x, Tensor gamma, Tensor beta, Tensor scale, Tensor offset, float epsilon) -> Tensor"
)
def _npu_quant_rms_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Tensor:
    """int8 of (normed x + beta) / scale + offset; x [..., hidden], gamma and beta [hidden]."""
    normed, _ = rms(x.float(), gamma, epsilon)
    return _to_int8((normed + beta.float()) / scale.float() + offset.float())


@npu_op(
    "npu_add_rms_norm_quant(Tensor x1, Tensor x2, Tensor gamma, Tensor scales1, Tensor? zero_points1=None, *, "
    "float epsilon=1e-06) -> (Tensor, Tensor, Tensor)"
)
def npu_add_rms_norm_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    scales1: Tensor,
    zero_points1: Tensor | None = None,
    *,
    epsilon: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """(int8 of the normed sum / scales1 + zero_points1, an empty second quantisation, the sum)."""
    total = x1 + x2
    scaled = rms(total.float(), gamma, epsilon)[0] / scales1.float()
    quantised = _to_int8(scaled if zero_points1 is None else scaled + zero_points1.float())
    return quantised, torch.empty(0, dtype=torch.int8), total


def npu_mm_all_reduce_base(
    x1: Tensor, x2: Tensor, hcom: str, *, reduce_op: str = "sum", bias: Tensor | None = None, **other: Any
) -> Tensor:
    """x1 @ x2 + bias, summed over the ranks of the group that `get_hccl_comm_name` named `hcom`."""
    import torch.distributed as dist

    from torch_npu import collectives

    if reduce_op != "sum" or any(value is not None for value in other.values()):
        raise NotImplementedError("npu_mm_all_reduce_base: only a sum, without quantisation")
    product = x1 @ x2 if bias is None else x1 @ x2 + bias
    collectives.group_by_name(hcom).allreduce([product], dist.AllreduceOptions()).wait()
    return product
