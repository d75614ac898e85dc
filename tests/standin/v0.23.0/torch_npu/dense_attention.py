# SPDX-License-Identifier: Apache-2.0
"""Fused attention over dense keys with further columns of a rotation, and what joins its parts: MLA's prefill."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_npu.library import npu_op
from torch_npu.ops.attention import attend
from torch_npu.ops.fused_attention import _allowed, _as_list, _sequences, fused


def _dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_rope: Tensor,
    key_rope: Tensor,
    actual_seq_lengths: Any,
    actual_seq_lengths_kv: Any,
    num_heads: int,
    scale: float,
    input_layout: str,
    atten_mask: Tensor | None = None,
    sparse_mode: int = 0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """In layout TND: -> (output [tokens, heads, d], log-sum-exp [tokens, heads, 1])."""
    if input_layout != "TND":
        raise NotImplementedError(f"dense keys with rotated columns in layout {input_layout!r}")
    query, key = torch.cat((query, query_rope), dim=-1), torch.cat((key, key_rope), dim=-1)
    ends, key_ends = _as_list(actual_seq_lengths), _as_list(actual_seq_lengths_kv)
    heads = key.shape[1]
    of_each = (
        _sequences(query, "TND", num_heads, ends),
        _sequences(key, "TND", heads, key_ends),
        _sequences(value, "TND", heads, key_ends),
    )
    found = [
        attend(rows, keys, values, scale, _allowed(atten_mask, sparse_mode, len(keys), len(rows), len(keys)))
        for rows, keys, values in zip(*of_each, strict=True)
    ]
    return torch.cat([one for one, _ in found]), torch.cat([lse.t() for _, lse in found]).unsqueeze(-1)


def over_dense_keys(paged: Callable[..., Any]) -> Callable[..., Any]:
    """``paged``, the shared operator, but for dense keys with rotated columns, which it does not know."""
    dense = fused(_dense)

    @functools.wraps(paged)  # with its .out, too
    def call(query: Tensor, key: Tensor, value: Tensor, **named: Any) -> Any:
        rotated = named.get("key_rope") is not None and named.get("block_table") is None
        return (dense if rotated else paged)(query, key, value, **named)

    return call


@npu_op("npu_attention_update(Tensor[] lse, Tensor[] local_out, int update_type) -> (Tensor, Tensor)")
def npu_attention_update(lse: Sequence[Tensor], local_out: Sequence[Tensor], update_type: int) -> tuple[Tensor, Tensor]:
    """Attention over all keys from attention over parts of them: lse [[rows]], local_out [[rows, d]] -> ([rows, d],
    log-sum-exp [rows])."""
    parts = torch.stack(tuple(lse))
    whole = parts.logsumexp(dim=0)
    weights = (parts - whole).exp().unsqueeze(-1)
    return (torch.stack(tuple(local_out)) * weights).sum(dim=0), whole
