# SPDX-License-Identifier: Apache-2.0
"""The fused attention operators of CANN: one call for many layouts.

They take sequence lengths as lists or tensors, so they are plain functions, made one node of a captured graph by
``fused``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_npu import graph
from torch_npu.library import npu_op
from torch_npu.ops.attention import attend, causal, paged

# sparse_mode: 0 is the mask as given; 2 and 3 are causal, aligned at the first and at the last token.
_PLAIN, _LEFT_UP, _RIGHT_DOWN = 0, 2, 3


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes each call one node of a captured graph, hidden from the trace as any operator's inside is."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return graph.task(run, *args, **kwargs)

    return call


def _as_list(lengths: Any) -> list[int] | None:
    return None if lengths is None else [int(x) for x in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]


def _allowed(mask: Tensor | None, sparse_mode: int, window: int, queries: int, keys: int) -> Tensor | None:
    if sparse_mode == _LEFT_UP:
        return torch.ones(queries, keys, dtype=torch.bool).tril()
    allowed = causal(queries, keys) if sparse_mode == _RIGHT_DOWN else None
    if sparse_mode == _PLAIN and mask is not None:
        allowed = mask[..., :queries, :keys].reshape(-1, queries, keys)[0] == 0
    if window < keys:
        recent = ~torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries - window - 1)
        allowed = recent if allowed is None else allowed & recent
    return allowed


def _sequences(x: Tensor, layout: str, heads: int, ends: list[int] | None) -> list[Tensor]:
    """One [tokens, heads, d] a sequence."""
    if layout == "TND":
        ends = ends or [x.shape[0]]
        return [x[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    if layout == "BSH":
        return list(x.view(*x.shape[:2], heads, -1))
    if layout == "BSND":
        return list(x)
    if layout == "BNSD":
        return list(x.transpose(1, 2))
    raise NotImplementedError(f"input_layout {layout!r}")


def _join(outputs: list[Tensor], layout: str) -> Tensor:
    """One tensor in ``layout`` of one [tokens, heads, d] a sequence."""
    if layout in ("TND", "NTD"):
        rows = torch.cat(outputs)
        return rows if layout == "TND" else rows.transpose(0, 1).contiguous()
    stacked = torch.stack(outputs)
    if layout == "BSH":
        return stacked.flatten(2)
    order = {"BNSD": (0, 2, 1, 3), "NBSD": (2, 0, 1, 3)}.get(layout)
    return stacked if order is None else stacked.permute(order).contiguous()


def _tokens_by_block(cache: Tensor, kv_heads: int) -> Tensor:
    """A paged cache as [blocks, block_size, kv_heads, d], from [blocks, kv_heads, block_size, d], [blocks, block_size,
    kv_heads * d], or FRACTAL_NZ [blocks, kv_heads, d / 16, block_size, 16]."""
    if cache.dim() == 5:
        return cache.permute(0, 3, 1, 2, 4).flatten(3)
    if cache.dim() == 4:
        return cache.transpose(1, 2)
    return cache.view(*cache.shape[:2], kv_heads, -1)


@fused
def npu_fused_infer_attention_score(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    atten_mask: Tensor | None = None,
    actual_seq_lengths: Any = None,
    actual_seq_lengths_kv: Any = None,
    block_table: Tensor | None = None,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    num_heads: int = 1,
    scale: float = 1.0,
    pre_tokens: int = 2147483647,
    next_tokens: int = 2147483647,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    sparse_mode: int = _PLAIN,
    block_size: int = 0,
    antiquant_mode: int = 0,
    antiquant_scale: Tensor | None = None,
    softmax_lse_flag: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention at inference -> (output in query's layout, log-sum-exp; [1] unless softmax_lse_flag).

    query is in `input_layout`, which may name another one for the output (BNSD_NBSD, TND_NTD); in layout TND
    `actual_seq_lengths` are the end rows of the sequences. With a block table [sequences, blocks], key and value are
    paged caches and `actual_seq_lengths_kv` are the sequences' lengths; a query beyond these has no row of the table
    either. query_rope and key_rope are further columns of query and key (MLA). `pre_tokens` is a window of earlier
    keys. The log-sum-exp is in float32, [tokens, heads, 1] in layout TND and [sequences, heads, tokens, 1] in others;
    of a sequence without keys it is -inf and the output 0.
    """
    if antiquant_scale is not None:
        raise NotImplementedError("npu_fused_infer_attention_score: antiquant")
    kv_heads = num_key_value_heads or num_heads
    input_layout, _, output_layout = input_layout.partition("_")
    ends = _as_list(actual_seq_lengths) if input_layout == "TND" else None
    queries = _sequences(query, input_layout, num_heads, ends)
    if query_rope is not None:
        ropes = _sequences(query_rope, input_layout, num_heads, ends)
        queries = [torch.cat(pair, dim=-1) for pair in zip(queries, ropes, strict=True)]
    lengths = _as_list(actual_seq_lengths_kv)
    if block_table is not None:
        every_key, every_value = (_tokens_by_block(cache, kv_heads) for cache in (key, value))
        if key_rope is not None:
            every_key = torch.cat((every_key, _tokens_by_block(key_rope, kv_heads)), dim=-1)
        held = [lengths[row] if lengths is not None and row < len(lengths) else 0 for row in range(len(queries))]
        keys, values = (
            [paged(cache, block_table[row if length else 0], length) for row, length in enumerate(held)]
            for cache in (every_key, every_value)
        )
    else:
        key_ends = lengths if input_layout == "TND" else None
        if key_rope is not None:
            key = torch.cat((key, key_rope), dim=-1)
        keys, values = (_sequences(x, input_layout, kv_heads, key_ends) for x in (key, value))
    outputs, sums = [], []
    for rows, k, v in zip(queries, keys, values, strict=True):
        allowed = _allowed(atten_mask, sparse_mode, pre_tokens, len(rows), len(k)) if len(k) else None
        attended, lse = attend(rows, k, v, scale, allowed)
        outputs.append(attended)
        sums.append(lse)
    joined = _join(outputs, output_layout or input_layout)
    if not softmax_lse_flag:
        return joined, query.new_zeros(1)
    of_all = torch.cat([lse.t() for lse in sums]) if input_layout == "TND" else torch.stack(sums)
    return joined, of_all.unsqueeze(-1)


@fused
def _into(*args: Any, out: list[Tensor], workspace: Tensor | None = None, **kwargs: Any) -> None:
    """``npu_fused_infer_attention_score`` with its results in ``out``, the output and the log-sum-exp."""
    attended, lse = npu_fused_infer_attention_score.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]
    out[0].copy_(attended.view_as(out[0]))
    if kwargs.get("softmax_lse_flag"):
        out[1].copy_(lse.view_as(out[1]))


npu_fused_infer_attention_score.out = _into  # type: ignore[attr-defined]
# Upstream calls it by this name, too.
torch.ops.npu.npu_fused_infer_attention_score = npu_fused_infer_attention_score


def _npu_fused_infer_attention_score_get_max_workspace(query: Tensor, *_: Any, **__: Any) -> Tensor:
    """Scratch memory of ``npu_fused_infer_attention_score`` for the longest sequences; it takes none here."""
    return query.new_empty(0)


_NAMES_OF_V2 = {
    "num_query_heads": "num_heads",
    "softmax_scale": "scale",
    "actual_seq_qlen": "actual_seq_lengths",
    "actual_seq_kvlen": "actual_seq_lengths_kv",
}


def _as_first(named: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the second version, by their names in the first."""
    return {_NAMES_OF_V2.get(name, name): value for name, value in named.items()}


def npu_fused_infer_attention_score_v2(*args: Any, **named: Any) -> tuple[Tensor, Tensor]:
    """`npu_fused_infer_attention_score`, with other names for some arguments."""
    found: tuple[Tensor, Tensor] = npu_fused_infer_attention_score(*args, **_as_first(named))
    return found


def _into_v2(*args: Any, **named: Any) -> None:
    _into(*args, **_as_first(named))


npu_fused_infer_attention_score_v2.out = _into_v2  # type: ignore[attr-defined]
_npu_fused_infer_attention_score_v2_get_max_workspace = _npu_fused_infer_attention_score_get_max_workspace


@fused
def npu_fusion_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    head_num: int,
    input_layout: str,
    *,
    atten_mask: Tensor | None = None,
    scale: float = 1.0,
    keep_prob: float = 1.0,
    actual_seq_qlen: Any = None,
    actual_seq_kvlen: Any = None,
    sparse_mode: int = _PLAIN,
) -> tuple[Tensor, ...]:
    """Attention at training -> (output in query's layout, ...). In layout TND the lengths are end rows. A True in
    `atten_mask` hides a key. Only the output is given: nothing here runs backwards."""
    if keep_prob != 1.0:
        raise NotImplementedError("npu_fusion_attention: dropout")
    queries = _sequences(query, input_layout, head_num, _as_list(actual_seq_qlen))
    kv_heads = {"TND": key.shape[1], "BSND": key.shape[-2], "BNSD": key.shape[1]}.get(input_layout, head_num)
    keys, values = (_sequences(x, input_layout, kv_heads, _as_list(actual_seq_kvlen)) for x in (key, value))
    outputs = []
    for rows, k, v in zip(queries, keys, values, strict=True):
        allowed = _allowed(atten_mask, sparse_mode, k.shape[0], rows.shape[0], k.shape[0])
        outputs.append(attend(rows, k, v, scale, allowed)[0])
    return (_join(outputs, input_layout),)


@npu_op("npu_attention_update(Tensor[] lse, Tensor[] local_out, int update_type) -> (Tensor, Tensor)")
def npu_attention_update(lse: Sequence[Tensor], local_out: Sequence[Tensor], update_type: int) -> tuple[Tensor, Tensor]:
    """Attention over all keys from attention over parts of them: lse [[rows]], local_out [[rows, d]] -> ([rows, d],
    log-sum-exp [rows])."""
    parts = torch.stack(tuple(lse))
    whole = parts.logsumexp(dim=0)
    weights = (parts - whole).exp().unsqueeze(-1)
    return (torch.stack(tuple(local_out)) * weights).sum(dim=0), whole
