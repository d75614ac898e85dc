# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters: the operators of vllm-ascend's compiled extension. They take float16 and bfloat16, here any dtype.

x [rows, in], weight [adapters, out, in] or [adapters, 1, out, in], y [rows, out or more]. Each row has the index of an
adapter; one below 0 leaves the row as it is. ``bgmv`` has an index a row, ``sgmv`` one a segment of ``seq_len`` rows;
rows behind the last segment have none.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _by_row(lora_indices: Tensor, seq_len: Tensor, rows: int) -> Tensor:
    """Indices [segments] and lengths [segments] -> index of each row [rows]."""
    ends = seq_len.long().cumsum(0)
    segment = torch.searchsorted(ends, torch.arange(rows, device=ends.device), right=True)
    found = lora_indices[segment.clamp(max=lora_indices.shape[0] - 1)]
    return torch.where(segment < lora_indices.shape[0], found, -1)


def _product(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """x times its row's adapter, in float32 [rows, out]; 0 where it has none."""
    chosen = weight.flatten(0, -3)[indices[: x.shape[0]].long().clamp(min=0)].float()
    result = torch.einsum("ri,roi->ro", x.float(), chosen)
    return torch.where(indices[: x.shape[0], None] >= 0, result, 0.0)


def bgmv_shrink(x: Tensor, weight: Tensor, indices: Tensor, y: Tensor, scale: float) -> None:
    """y = scale * x @ weight of the row."""
    result = scale * _product(x, weight, indices)
    y.copy_(torch.where(indices[: x.shape[0], None] >= 0, result.to(y.dtype), y))


def bgmv_expand(x: Tensor, weight: Tensor, indices: Tensor, y: Tensor, slice_offset: int, slice_size: int) -> Tensor:
    """Adds x @ weight of the row to ``slice_size`` columns of y from ``slice_offset`` on -> y."""
    y[:, slice_offset : slice_offset + slice_size] += _product(x, weight, indices).to(y.dtype)
    return y


def sgmv_shrink(x: Tensor, weight: Tensor, lora_indices: Tensor, seq_len: Tensor, y: Tensor, scale: float) -> None:
    """As ``bgmv_shrink``."""
    bgmv_shrink(x, weight, _by_row(lora_indices, seq_len, x.shape[0]), y, scale)


def sgmv_expand(
    x: Tensor, weight: Tensor, lora_indices: Tensor, seq_len: Tensor, y: Tensor, slice_offset: int, slice_size: int
) -> Tensor:
    """As ``bgmv_expand``."""
    return bgmv_expand(x, weight, _by_row(lora_indices, seq_len, x.shape[0]), y, slice_offset, slice_size)


_SCHEMAS = {
    "bgmv_shrink(Tensor x, Tensor weight, Tensor indices, Tensor(a!) y, float scale) -> ()": bgmv_shrink,
    "bgmv_expand(Tensor x, Tensor weight, Tensor indices, Tensor(a!) y, int slice_offset, int slice_size) -> "
    "Tensor(a!)": bgmv_expand,
    "sgmv_shrink(Tensor x, Tensor weight, Tensor lora_indices, Tensor seq_len, Tensor(a!) y, float scale) -> "
    "()": sgmv_shrink,
    "sgmv_expand(Tensor x, Tensor weight, Tensor lora_indices, Tensor seq_len, Tensor(a!) y, int slice_offset, int "
    "slice_size) -> Tensor(a!)": sgmv_expand,
}
# In _C up to vllm-ascend 0.10.1, in _C_ascend after it.
_libraries = [torch.library.Library(namespace, "FRAGMENT") for namespace in ("_C", "_C_ascend")]
for _library in _libraries:
    for _schema, _kernel in _SCHEMAS.items():
        _library.define(_schema)
        _library.impl(_kernel.__name__, _kernel, "CompositeExplicitAutograd")
