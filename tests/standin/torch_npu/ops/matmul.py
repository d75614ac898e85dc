# SPDX-License-Identifier: Apache-2.0
"""Grouped matrix products: one per expert, over consecutive rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_npu.library import npu_op

CUMULATIVE, COUNTS = 0, 1


def group_bounds(group_list: Tensor, group_list_type: int) -> list[int]:
    """The end row of each group, from end rows (type 0) or counts (type 1)."""
    if group_list_type not in (CUMULATIVE, COUNTS):
        raise NotImplementedError(f"group_list_type {group_list_type}")
    ends = group_list if group_list_type == CUMULATIVE else group_list.cumsum(0)
    return [int(end) for end in ends.tolist()]


def _one_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, row_scale: Tensor | None, dtype: torch.dtype
) -> Tensor:
    if x.dtype == torch.int8:
        product = x.to(torch.int32) @ weight.to(torch.int32)
        if scale is None and row_scale is None:
            return product.to(dtype)
        product = product.float()
    else:
        product = x @ weight.to(x.dtype)
    if scale is not None:
        product = product * scale.float()
    if row_scale is not None:
        product = product * row_scale.float().unsqueeze(-1)
    if bias is not None:
        product = product + bias
    return product.to(dtype)


@npu_op(
    "npu_grouped_matmul(Tensor[] x, Tensor[] weight, *, Tensor[]? bias=None, Tensor[]? scale=None, Tensor[]? "
    "offset=None, "
    "Tensor[]? antiquant_scale=None, Tensor[]? antiquant_offset=None, Tensor[]? per_token_scale=None, "
    "Tensor? group_list=None, Tensor[]? activation_input=None, Tensor[]? activation_quant_scale=None, "
    "Tensor[]? activation_quant_offset=None, int? split_item=0, int? group_type=None, int? group_list_type=0, "
    "int? act_type=0, ScalarType? output_dtype=None) -> Tensor[]",
    reads_data=True,
)
def npu_grouped_matmul(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    *,
    bias: Sequence[Tensor] | None = None,
    scale: Sequence[Tensor] | None = None,
    offset: Sequence[Tensor] | None = None,
    antiquant_scale: Sequence[Tensor] | None = None,
    antiquant_offset: Sequence[Tensor] | None = None,
    per_token_scale: Sequence[Tensor] | None = None,
    group_list: Tensor | None = None,
    activation_input: Sequence[Tensor] | None = None,
    activation_quant_scale: Sequence[Tensor] | None = None,
    activation_quant_offset: Sequence[Tensor] | None = None,
    split_item: int | None = 0,
    group_type: int | None = None,
    group_list_type: int | None = 0,
    act_type: int | None = 0,
    output_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """x [[rows, k]], weight [[groups, k, n]], group_list [groups] -> [[rows, n]]: each group of rows by its own weight.

    int8 operands are scaled per column (`scale` [[groups, n]]) and per row (`per_token_scale` [[rows]]). Rows after
    the last group are zero here; a device leaves them undefined. Only the form with one input, one weight and one
    output is known.
    """
    if len(x) != 1 or len(weight) != 1 or group_list is None or group_type != 0:
        raise NotImplementedError(
            "npu_grouped_matmul: only one x, one weight and a group_list over rows (group_type=0)"
        )
    if offset or antiquant_scale or antiquant_offset or activation_input or act_type:
        raise NotImplementedError("npu_grouped_matmul: offsets, antiquant and fused activation")
    rows, weights = x[0], weight[0]
    dtype = output_dtype or (torch.int32 if rows.dtype == torch.int8 else rows.dtype)
    out = rows.new_zeros((rows.shape[0], weights.shape[-1]), dtype=dtype)
    start = 0
    for group, end in enumerate(group_bounds(group_list, group_list_type or CUMULATIVE)):
        if end > start:
            out[start:end] = _one_product(
                rows[start:end],
                weights[group],
                bias[0][group] if bias else None,
                scale[0][group] if scale else None,
                per_token_scale[0][start:end] if per_token_scale else None,
                dtype,
            )
        start = max(start, end)
    return [out]


@npu_op("_npu_matmul_add_fp32(Tensor x, Tensor weight, Tensor(a!) c) -> Tensor(a!)")
def _npu_matmul_add_fp32(x: Tensor, weight: Tensor, c: Tensor) -> Tensor:
    """Adds the product of the transposed x and weight to c, in fp32."""
    return c.add_(x.float().t() @ weight.float())


@npu_op("npu_transpose_batchmatmul(Tensor input, Tensor weight, *, int[]? perm_y=None) -> Tensor")
def npu_transpose_batchmatmul(input: Tensor, weight: Tensor, *, perm_y: Sequence[int] | None = None) -> Tensor:
    """input [batch, m, k] by weight [batch, k, n] -> [batch, m, n], its dimensions in the order ``perm_y``."""
    product = torch.bmm(input, weight)
    return product if perm_y is None else product.permute(*perm_y).contiguous()
