# SPDX-License-Identifier: Apache-2.0
"""Multi-head latent attention: DeepSeek's compressed key-value cache."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu.library import npu_op
from torch_npu.ops.attention import attend, causal, paged
from torch_npu.ops.norm import rms
from torch_npu.ops.rope import npu_interleave_rope


def _scatter(cache: Tensor, slots: Tensor, rows: Tensor, *, nz: bool) -> None:
    """Writes rows [tokens, d] to their slots; a slot below 0 is skipped.

    The cache is [blocks, block_size, 1, d]. In FRACTAL_NZ the memory of a block is laid out [d / 16, block_size, 16].
    """
    keep = slots >= 0
    slots, rows = slots[keep], rows[keep].to(cache.dtype)
    if not nz:
        cache.view(-1, cache.shape[-1])[slots] = rows
        return
    block_size, width = cache.shape[1], cache.shape[-1]
    tiles = cache.view(cache.shape[0], width // 16, block_size, 16)
    tiles[slots // block_size, :, slots % block_size] = rows.view(-1, width // 16, 16)


@npu_op(
    "npu_kv_rmsnorm_rope_cache(Tensor kv, Tensor gamma, Tensor cos, Tensor sin, Tensor index, Tensor(a!) k_cache, "
    "Tensor(b!) ckv_cache, *, Tensor? k_rope_scale=None, Tensor? c_kv_scale=None, Tensor? k_rope_offset=None, "
    'Tensor? c_kv_offset=None, float epsilon=1e-05, str cache_mode="Norm", bool is_output_kv=False) '
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
def npu_kv_rmsnorm_rope_cache(
    kv: Tensor,
    gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    k_cache: Tensor,
    ckv_cache: Tensor,
    *,
    k_rope_scale: Tensor | None = None,
    c_kv_scale: Tensor | None = None,
    k_rope_offset: Tensor | None = None,
    c_kv_offset: Tensor | None = None,
    epsilon: float = 1e-5,
    cache_mode: str = "Norm",
    is_output_kv: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Splits kv [tokens, 1, 1, latent + rope], normalises the first part, rotates the second, and writes both to the
    caches.

    gamma [latent], cos and sin [tokens, 1, 1, rope], index [tokens] slots, caches [blocks, block_size, 1, rope or
    latent] -> (key cache, latent cache, rotated part, normalised part); the last two are empty unless `is_output_kv`.
    """
    if cache_mode not in ("PA", "PA_BNSD", "PA_NZ", "PA_BLK_NZ") or k_rope_scale is not None or c_kv_scale is not None:
        raise NotImplementedError(f"npu_kv_rmsnorm_rope_cache: cache_mode {cache_mode!r} or quantised caches")
    latent = gamma.shape[0]
    compressed, _ = rms(kv[..., :latent], gamma, epsilon)
    rotated = npu_interleave_rope(kv[..., latent:], cos, sin)
    nz = cache_mode.endswith("NZ")
    _scatter(k_cache, index, rotated.flatten(0, 2), nz=nz)
    _scatter(ckv_cache, index, compressed.flatten(0, 2), nz=nz)
    if is_output_kv:
        return k_cache.detach(), ckv_cache.detach(), rotated, compressed
    return k_cache.detach(), ckv_cache.detach(), rotated.new_empty(0), compressed.new_empty(0)


def _merge(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Two attentions of the same queries over disjoint keys -> over all of them; [q, heads, v] and [heads, q]."""
    lse = torch.logaddexp(first_lse, second_lse)
    shares = [torch.exp(part - lse).t().unsqueeze(-1) for part in (first_lse, second_lse)]
    return (first.float() * shares[0] + second.float() * shares[1]).to(first.dtype), lse


@npu_op(
    "npu_ring_mla(Tensor q_nope, Tensor q_rope, Tensor k_nope, Tensor k_rope, Tensor value, Tensor? mask, "
    "Tensor seqlen, "
    "int head_num, int kv_head_num, Tensor? pre_out, Tensor? prev_lse, float qk_scale, str kernel_type, str mask_type, "
    "str input_layout, str calc_type, Tensor(a!) output, Tensor(b!) softmax_lse) -> ()",
    reads_data=True,
    namespace="atb",
)
def npu_ring_mla(
    q_nope: Tensor,
    q_rope: Tensor,
    k_nope: Tensor,
    k_rope: Tensor,
    value: Tensor,
    mask: Tensor | None,
    seqlen: Tensor,
    head_num: int,
    kv_head_num: int,
    pre_out: Tensor | None,
    prev_lse: Tensor | None,
    qk_scale: float,
    kernel_type: str,
    mask_type: str,
    input_layout: str,
    calc_type: str,
    output: Tensor,
    softmax_lse: Tensor,
) -> None:
    """One ring step: queries [tokens, heads, nope | rope] over keys [tokens, heads, nope | rope] and value [tokens,
    heads, v].

    seqlen [sequences], or [2, sequences] with query and key lengths. output [tokens, heads, v] and softmax_lse
    [heads, tokens] are replaced (calc_type_first_ring) or joined with pre_out and prev_lse (calc_type_default).
    mask_type_triu is causal.
    """
    lengths = seqlen.view(-1, seqlen.shape[-1]).tolist()
    query, key = torch.cat((q_nope, q_rope), dim=-1), torch.cat((k_nope, k_rope), dim=-1)
    first_query = first_key = 0
    for queries, keys in zip(lengths[0], lengths[-1], strict=True):
        rows, columns = slice(first_query, first_query + queries), slice(first_key, first_key + keys)
        first_query, first_key = first_query + queries, first_key + keys
        if queries == 0 or keys == 0:
            continue
        allowed = causal(queries, keys) if mask_type == "mask_type_triu" else None
        result, lse = attend(query[rows], key[columns], value[columns], qk_scale, allowed)
        if calc_type == "calc_type_default" and pre_out is not None and prev_lse is not None:
            result, lse = _merge(pre_out[rows], prev_lse[:, rows], result, lse)
        output[rows] = result.view_as(output[rows])
        softmax_lse[:, rows] = lse.to(softmax_lse.dtype)


@npu_op(
    "npu_paged_cache_load(Tensor key_cache, Tensor value_cache, Tensor block_table, Tensor context_lens, *, "
    "Tensor? seq_starts=None, Tensor(a!) key, Tensor(b!) value) -> ()",
    reads_data=True,
    namespace="atb",
)
def npu_paged_cache_load(
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_lens: Tensor,
    *,
    seq_starts: Tensor | None = None,
    key: Tensor,
    value: Tensor,
) -> None:
    """Copies each sequence's entries [start, start + length) from the paged caches [blocks, block_size, heads, d]
    into key and value [tokens, heads, d], one sequence after the other."""
    starts = seq_starts.tolist() if seq_starts is not None else [0] * context_lens.numel()
    at = 0
    for row, (start, length) in enumerate(zip(starts, context_lens.tolist(), strict=False)):
        for cache, out in ((key_cache, key), (value_cache, value)):
            out[at : at + length] = paged(cache, block_table[row], start + length)[start:].view_as(
                out[at : at + length]
            )
        at += length


@npu_op(
    "_npu_paged_attention_mla(Tensor query, Tensor key_cache, int num_kv_heads, int num_heads, float scale_value, "
    "Tensor block_table, Tensor context_lens, int mla_vheadsize, Tensor(a!) out) -> ()",
    reads_data=True,
)
def _npu_paged_attention_mla(
    query: Tensor,
    key_cache: Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: Tensor,
    context_lens: Tensor,
    mla_vheadsize: int,
    out: Tensor,
) -> None:
    """Decode over the latent cache: query [sequences, heads, latent + rope], key_cache [blocks, block_size, 1, latent
    + rope]; the values are the first `mla_vheadsize` columns -> out [sequences, heads, mla_vheadsize]."""
    for row, length in enumerate(context_lens.tolist()):
        keys = paged(key_cache, block_table[row], length)
        attended, _ = attend(query[row : row + 1], keys, keys[..., :mla_vheadsize], scale_value, None)
        out[row] = attended[0]


@npu_op(
    "npu_multi_head_latent_attention(Tensor q_nope, Tensor q_rope, Tensor ctkv, Tensor k_rope, Tensor block_tables, "
    "Tensor context_lens, int q_head_num, float qk_scale, int kv_head_num) -> Tensor",
    reads_data=True,
    namespace="atb",
)
def npu_multi_head_latent_attention(
    q_nope: Tensor,
    q_rope: Tensor,
    ctkv: Tensor,
    k_rope: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    q_head_num: int,
    qk_scale: float,
    kv_head_num: int,
) -> Tensor:
    """As `_npu_paged_attention_mla`, with the two parts of query and cache apart -> [sequences, heads, latent]."""
    out = torch.zeros_like(q_nope)
    for row, length in enumerate(context_lens.tolist()):
        latent, rope = (paged(cache, block_tables[row], length) for cache in (ctkv, k_rope))
        query = torch.cat((q_nope[row : row + 1], q_rope[row : row + 1]), dim=-1)
        out[row] = attend(query, torch.cat((latent, rope), dim=-1), latent, qk_scale, None)[0][0]
    return out
