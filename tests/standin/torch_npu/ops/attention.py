# SPDX-License-Identifier: Apache-2.0
"""Attention over dense keys and over a paged KV cache (Ascend Transformer Boost: SelfAttention and PagedAttention)."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu.library import npu_op
from torch_npu.ops.cache import by_token


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention of one sequence, in float32.

    query [q, heads, d], key [k, kv_heads, d], value [k, kv_heads, v], allowed [q, k] or None ->
    (output [q, heads, v] in query's dtype, log of the sum of exponentials [heads, q] in float32).
    """
    group = query.shape[1] // key.shape[1]
    wide_key = key.float().repeat_interleave(group, dim=1)
    wide_value = value.float().repeat_interleave(group, dim=1)
    scores = torch.einsum("qhd,khd->hqk", query.float(), wide_key) * scale
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.exp(scores - lse.unsqueeze(-1))
    return torch.einsum("hqk,khv->qhv", weights, wide_value).to(query.dtype), lse


def causal(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """[queries, keys] bool: the last query sees every key, each one before it one less."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def paged(cache: Tensor, block_row: Tensor, length: int) -> Tensor:
    """cache [blocks, block_size, ...], or as a 310P has it, and one row of a block table -> the first `length` entries
    [length, ...]."""
    cache = by_token(cache)
    blocks = -(-length // cache.shape[1])
    return cache[block_row[:blocks].long()].flatten(0, 1)[:length]


def plain_mask(mask: Tensor) -> Tensor:
    """mask [rows, columns], or fractal as a 310P has it, one for each sequence: [sequences, columns / 16, rows, 16]."""
    return mask if mask.dim() == 2 else mask[0].transpose(0, 1).flatten(1)


def _lengths(lengths: Tensor) -> list[int]:
    return [int(length) for length in lengths.tolist()]


@npu_op(
    "_npu_flash_attention(Tensor query, Tensor key, Tensor value, Tensor mask, Tensor seq_len, float scale_value, "
    "int num_heads, int num_kv_heads, Tensor(a!) out) -> ()",
    reads_data=True,
)
def _npu_flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    seq_len: Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: Tensor,
) -> None:
    """Prefill without a cache: query [tokens, heads, d], key and value [tokens, kv_heads, d], seq_len [sequences] ->
    out.

    mask [longest or more, longest or more], or fractal: any value but 0 hides a key (vllm-ascend passes -inf or 1, by
    dtype). Rows beyond the sequences are padding.
    """
    mask = plain_mask(mask)
    start = 0
    for length in _lengths(seq_len):
        rows = slice(start, start + length)
        allowed = mask[:length, :length] == 0
        attended, _ = attend(
            query[rows].view(length, num_heads, -1),
            key[rows].view(length, num_kv_heads, -1),
            value[rows].view(length, num_kv_heads, -1),
            scale_value,
            allowed,
        )
        out[rows] = attended.view_as(out[rows])
        start += length


@npu_op(
    "_npu_flash_attention_unpad(Tensor query, Tensor key, Tensor value, Tensor seq_len, float scale_value, int "
    "num_heads, "
    "int num_kv_heads, Tensor(a!) out) -> ()",
    reads_data=True,
)
def _npu_flash_attention_unpad(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seq_len: Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: Tensor,
) -> None:
    """As `_npu_flash_attention`, without a mask: each token sees its whole sequence (vision encoders)."""
    start = 0
    for length in _lengths(seq_len):
        rows = slice(start, start + length)
        attended, _ = attend(query[rows], key[rows], value[rows], scale_value, None)
        out[rows] = attended.view_as(out[rows])
        start += length


@npu_op(
    "_npu_paged_attention(Tensor query, Tensor key_cache, Tensor value_cache, int num_kv_heads, int num_heads, "
    "float scale_value, Tensor block_table, Tensor context_lens, Tensor(a!) out, Tensor? workspace=None) -> ()",
    reads_data=True,
)
def _npu_paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: Tensor,
    context_lens: Tensor,
    out: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """Decode: one token a sequence. query [sequences or more, heads, d], caches [blocks, block_size, kv_heads, d],
    block_table [sequences, blocks], context_lens [sequences] -> the first rows of out; further rows are padding."""
    for row, length in enumerate(_lengths(context_lens)):
        key, value = (
            paged(cache, block_table[row], length).reshape(length, num_kv_heads, -1)
            for cache in (key_cache, value_cache)
        )
        attended, _ = attend(query[row].view(1, num_heads, -1), key, value, scale_value, None)
        out[row] = attended.view_as(out[row])


@npu_op(
    "_npu_paged_attention_get_workspace(Tensor query, Tensor key_cache, Tensor value_cache, int num_kv_heads, int "
    "num_heads, float scale_value, Tensor block_table, Tensor context_lens, Tensor out) -> Tensor"
)
def _npu_paged_attention_get_workspace(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: Tensor,
    context_lens: Tensor,
    out: Tensor,
) -> Tensor:
    """Scratch memory of `_npu_paged_attention` with these arguments; it takes none here."""
    return query.new_empty(0)


def _within(lengths: list[int], rows: int) -> Tensor:
    """``lengths`` cut off where their sum passes ``rows``."""
    ends = torch.tensor([0, *lengths]).cumsum(0).clamp(max=rows)
    return ends.diff()


def _chunks(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    query_lens: Tensor,
    context_lens: Tensor,
    scale: float,
    out: Tensor,
) -> None:
    start = 0
    for row, (queries, keys) in enumerate(zip(_lengths(query_lens), _lengths(context_lens), strict=True)):
        rows = slice(start, start + queries)
        key, value = (paged(cache, block_table[row], keys) for cache in (key_cache, value_cache))
        attended, _ = attend(query[rows], key, value, scale, causal(queries, keys))
        out[rows] = attended.view_as(out[rows])
        start += queries


@npu_op(
    "_npu_paged_attention_splitfuse(Tensor query, Tensor key_cache, Tensor value_cache, Tensor mask, Tensor "
    "block_table, "
    "Tensor seq_len, Tensor context_lens, float scale_value, int num_heads, int num_kv_heads, Tensor(a!) out) -> ()",
    reads_data=True,
)
def _npu_paged_attention_splitfuse(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    mask: Tensor,
    block_table: Tensor,
    seq_len: Tensor,
    context_lens: Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: Tensor,
) -> None:
    """Prefill chunks and decodes together: seq_len [sequences] new tokens, context_lens [sequences] all tokens.

    The mask that callers pass is the causal one, laid out per query row; causality is applied from the lengths.
    Upstream's Eagle drafter names the target's new tokens, of which it passes only the accepted ones; a kernel then
    reads past the end, and here the rows that are not there are left out. Its drafts are poor for it, no token wrong.
    """
    present = _within(_lengths(seq_len), len(query))
    _chunks(query, key_cache, value_cache, block_table, present, context_lens, scale_value, out)


@npu_op(
    "_npu_flash_attention_qlens(Tensor query, Tensor key_cache, Tensor value_cache, Tensor mask, Tensor block_table, "
    "Tensor seq_len, Tensor context_lens, float scale_value, int num_heads, int num_kv_heads, Tensor(a!) out) -> ()",
    reads_data=True,
)
def _npu_flash_attention_qlens(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    mask: Tensor,
    block_table: Tensor,
    seq_len: Tensor,
    context_lens: Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: Tensor,
) -> None:
    """Prefill after a cache hit; arguments as in `_npu_paged_attention_splitfuse`."""
    _chunks(query, key_cache, value_cache, block_table, seq_len, context_lens, scale_value, out)


@npu_op(
    "npu_incre_flash_attention(Tensor query, Tensor key, Tensor value, *, Tensor? padding_mask=None, Tensor? "
    "atten_mask=None, "
    "Tensor? pse_shift=None, int[]? actual_seq_lengths=None, Tensor? block_table=None, int num_heads=1, "
    'float scale_value=1.0, str input_layout="BSH", int num_key_value_heads=0, int block_size=0, int '
    "inner_precise=1) -> Tensor",
    reads_data=True,
)
def npu_incre_flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    pse_shift: Tensor | None = None,
    actual_seq_lengths: list[int] | None = None,
    block_table: Tensor | None = None,
    num_heads: int = 1,
    scale_value: float = 1.0,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    block_size: int = 0,
    inner_precise: int = 1,
) -> Tensor:
    """Decode: query [batch, 1, heads * d], key and value [blocks, block_size, kv_heads * d] -> [batch, 1, heads *
    d]."""
    if block_table is None or actual_seq_lengths is None or input_layout != "BSH":
        raise NotImplementedError("npu_incre_flash_attention: only the paged form with layout BSH")
    kv_heads = num_key_value_heads or num_heads
    out = torch.zeros_like(query)
    for row, length in enumerate(actual_seq_lengths[: query.shape[0]]):
        if length == 0:
            continue
        keys, values = (paged(cache, block_table[row], length).view(length, kv_heads, -1) for cache in (key, value))
        attended, _ = attend(query[row].view(1, num_heads, -1), keys, values, scale_value, None)
        out[row] = attended.view(1, -1)
    return out
