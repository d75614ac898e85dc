# SPDX-License-Identifier: Apache-2.0
"""Rotary position embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu.library import npu_op


def rotate_half(x: Tensor) -> Tensor:
    """(-second half, first half) of the last dimension."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def rotate_interleaved(x: Tensor) -> Tensor:
    """(-x1, x0, -x3, x2, ...) in the last dimension."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def deinterleave(x: Tensor) -> Tensor:
    """(x0, x2, ..., x1, x3, ...) in the last dimension."""
    return torch.cat((x[..., ::2], x[..., 1::2]), dim=-1)


@npu_op(
    "_npu_rotary_embedding(Tensor positions, Tensor(a!) query, Tensor(b!) key, int head_size, Tensor cos_sin_cache, "
    "bool is_neox) -> ()"
)
def _npu_rotary_embedding(
    positions: Tensor, query: Tensor, key: Tensor, head_size: int, cos_sin_cache: Tensor, is_neox: bool
) -> None:
    """Rotates query and key in place.

    positions [tokens], query and key [tokens, heads * rotary], cos_sin_cache [positions, rotary]: cosines in the
    first half of a row, sines in the second. The rotated width is the cache's: callers that rotate a part of each
    head pass that part.
    """
    rotary = cos_sin_cache.shape[-1]
    cos, sin = cos_sin_cache[positions.flatten()].unsqueeze(1).chunk(2, dim=-1)
    if is_neox:
        cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    else:
        cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    rotate = rotate_half if is_neox else rotate_interleaved
    for x in (query, key):
        heads = x.view(cos.shape[0], -1, rotary)
        heads.copy_(heads * cos + rotate(heads) * sin)


@npu_op(
    'npu_apply_rotary_pos_emb(Tensor query, Tensor key, Tensor cos, Tensor sin, str layout="BSH", '
    'str rotary_mode="half") -> (Tensor, Tensor)'
)
def npu_apply_rotary_pos_emb(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, layout: str = "BSH", rotary_mode: str = "half"
) -> tuple[Tensor, Tensor]:
    """query and key [batch, sequence, heads, head], cos and sin [batch, sequence, 1, head] -> both rotated by
    halves."""
    if rotary_mode != "half":
        raise NotImplementedError(f"npu_apply_rotary_pos_emb: rotary_mode {rotary_mode!r}")
    return query * cos + rotate_half(query) * sin, key * cos + rotate_half(key) * sin


@npu_op('npu_rotary_mul(Tensor self, Tensor r1, Tensor r2, str rotary_mode="half") -> Tensor')
def npu_rotary_mul(x: Tensor, cos: Tensor, sin: Tensor, rotary_mode: str = "half") -> Tensor:
    """x * cos + rotate(x) * sin, rotating halves or neighbours; cos and sin broadcast to x."""
    rotate = rotate_half if rotary_mode == "half" else rotate_interleaved
    return x * cos + rotate(x) * sin


@npu_op("npu_interleave_rope(Tensor x, Tensor cos, Tensor sin) -> Tensor")
def npu_interleave_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [batch, heads, sequence, head] with neighbouring pairs -> the pairs as halves, rotated; cos, sin [batch, 1,
    sequence, head]."""
    halves = deinterleave(x)
    return halves * cos + rotate_half(halves) * sin
