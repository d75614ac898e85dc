# SPDX-License-Identifier: Apache-2.0
"""Attention operators against torch's scaled_dot_product_attention."""

import pytest
import torch
import torch_npu
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

HEADS, KV_HEADS, WIDTH, BLOCK = 4, 2, 8, 4
SCALE = WIDTH**-0.5


def _reference(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """[q, heads, d], [k, kv_heads, d] -> [q, heads, d]; causal means that the last query sees every key."""
    repeat = query.shape[1] // key.shape[1]
    mask = torch.ones(query.shape[0], key.shape[0], dtype=torch.bool)
    if causal:
        mask = mask.tril(key.shape[0] - query.shape[0])
    q, k, v = query, key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    out = scaled_dot_product_attention(*(x.transpose(0, 1) for x in (q, k, v)), attn_mask=mask, scale=SCALE)
    return out.transpose(0, 1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _paged(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Caches [blocks, block, kv_heads, d] filled through the operator, block table, and the dense keys and values."""
    blocks = [-(-length // BLOCK) for length in lengths]
    table = torch.zeros(len(lengths), max(blocks), dtype=torch.int32)
    order = torch.randperm(sum(blocks), dtype=torch.int32)
    caches = [torch.full((sum(blocks), BLOCK, KV_HEADS, WIDTH), float("nan")) for _ in range(2)]
    dense, at = [], 0
    for row, (length, count) in enumerate(zip(lengths, blocks, strict=True)):
        table[row, :count] = order[at : at + count]
        at += count
        key, value = torch.randn(length, KV_HEADS, WIDTH), torch.randn(length, KV_HEADS, WIDTH)
        places = torch.arange(length)
        slots = table[row, places // BLOCK] * BLOCK + places % BLOCK
        torch_npu._npu_reshape_and_cache(key, value, caches[0], caches[1], slots.to(torch.int32))
        dense.append((key, value))
    return caches[0], caches[1], table, dense


def test_prefill() -> None:
    lengths = [3, 5, 1]
    query = torch.randn(sum(lengths), HEADS, WIDTH)
    key, value = (torch.randn(sum(lengths), KV_HEADS, WIDTH) for _ in range(2))
    mask = torch.ones(5, 5).triu(1)
    out = torch.zeros_like(query)
    torch_npu._npu_flash_attention(
        query=query, key=key, value=value, mask=mask, seq_len=torch.tensor(lengths), scale_value=SCALE,
        num_heads=HEADS, num_kv_heads=KV_HEADS, out=out,
    )  # fmt: skip
    parts = [x.split(lengths) for x in (query, key, value)]
    want = torch.cat([_reference(q, k, v, causal=True) for q, k, v in zip(*parts, strict=True)])
    torch.testing.assert_close(out, want)


def test_decode_leaves_padding_rows() -> None:
    lengths = [6, 1, 9]
    key_cache, value_cache, table, dense = _paged(lengths)
    query = torch.randn(5, HEADS, WIDTH)
    out = torch.full_like(query, 3.0)
    torch_npu._npu_paged_attention(
        query=query, key_cache=key_cache, value_cache=value_cache, num_kv_heads=KV_HEADS, num_heads=HEADS,
        scale_value=SCALE, block_table=table, context_lens=torch.tensor(lengths), out=out,
    )  # fmt: skip
    want = torch.cat([_reference(query[i : i + 1], *dense[i], causal=False) for i in range(3)])
    torch.testing.assert_close(out[:3], want)
    assert torch.equal(out[3:], torch.full_like(out[3:], 3.0))


@pytest.mark.parametrize("name", ["_npu_paged_attention_splitfuse", "_npu_flash_attention_qlens"])
def test_chunks(name: str) -> None:
    contexts, queries = [7, 5, 4], [2, 5, 1]
    key_cache, value_cache, table, dense = _paged(contexts)
    query = torch.randn(sum(queries), HEADS, WIDTH)
    out = torch.zeros_like(query)
    getattr(torch_npu, name)(
        query=query, key_cache=key_cache, value_cache=value_cache, mask=torch.zeros(1), block_table=table,
        seq_len=torch.tensor(queries), context_lens=torch.tensor(contexts), num_kv_heads=KV_HEADS, num_heads=HEADS,
        scale_value=SCALE, out=out,
    )  # fmt: skip
    parts = zip(query.split(queries), dense, strict=True)
    torch.testing.assert_close(out, torch.cat([_reference(q, k, v, causal=True) for q, (k, v) in parts]))


def test_chunks_that_are_not_all_there() -> None:
    """Three new tokens are named for each sequence, and one row is passed: it is the last of its sequence."""
    contexts = [7, 5]
    key_cache, value_cache, table, dense = _paged(contexts)
    query = torch.randn(1, HEADS, WIDTH)
    out = torch.zeros_like(query)
    torch_npu._npu_paged_attention_splitfuse(
        query=query, key_cache=key_cache, value_cache=value_cache, mask=torch.zeros(1), block_table=table,
        seq_len=torch.tensor([3, 3]), context_lens=torch.tensor(contexts), num_kv_heads=KV_HEADS, num_heads=HEADS,
        scale_value=SCALE, out=out,
    )  # fmt: skip
    torch.testing.assert_close(out, _reference(query, *dense[0], causal=True))


def test_incremental() -> None:
    lengths = [6, 2]
    key_cache, value_cache, table, dense = _paged(lengths)
    query = torch.randn(2, 1, HEADS * WIDTH)
    out = torch_npu.npu_incre_flash_attention(
        query, key_cache.flatten(2), value_cache.flatten(2), num_heads=HEADS, num_key_value_heads=KV_HEADS,
        actual_seq_lengths=lengths, scale_value=SCALE, block_table=table, input_layout="BSH", block_size=BLOCK,
    )  # fmt: skip
    want = [_reference(query[i].view(1, HEADS, WIDTH), *dense[i], causal=False).flatten(1) for i in range(2)]
    torch.testing.assert_close(out, torch.stack(want))


def test_fused_decode_of_a_latent_cache() -> None:
    latent, rope, lengths = 6, 2, [5, 3]
    caches = [torch.randn(4, 1, BLOCK, width) for width in (latent, rope)]
    table = torch.tensor([[2, 0], [3, 1]])
    nope, pe = torch.randn(2, HEADS, 1, latent), torch.randn(2, HEADS, 1, rope)
    out, _ = torch_npu.npu_fused_infer_attention_score(
        nope, caches[0], caches[0], query_rope=pe, key_rope=caches[1], num_heads=HEADS, num_key_value_heads=1,
        input_layout="BNSD", scale=SCALE, block_table=table, block_size=BLOCK, actual_seq_lengths_kv=lengths,
    )  # fmt: skip
    for row, length in enumerate(lengths):
        c, r = (cache[table[row]].flatten(0, 2)[:length] for cache in caches)
        scores = (nope[row, :, 0] @ c.T + pe[row, :, 0] @ r.T) * SCALE
        torch.testing.assert_close(out[row, :, 0], scores.softmax(-1) @ c)


def test_fused_speculative_decode_is_causal() -> None:
    caches = [torch.randn(2, 1, BLOCK, width) for width in (6, 2)]
    nope, pe = torch.randn(2, HEADS, 6), torch.randn(2, HEADS, 2)
    common = {
        "num_heads": HEADS, "num_key_value_heads": 1, "scale": SCALE, "block_size": BLOCK,
        "block_table": torch.tensor([[1, 0]]), "key_rope": caches[1],
    }  # fmt: skip
    both, _ = torch_npu.npu_fused_infer_attention_score(
        nope, caches[0], caches[0], query_rope=pe, input_layout="TND", sparse_mode=3, actual_seq_lengths=[2],
        actual_seq_lengths_kv=[6], **common,
    )  # fmt: skip
    for i, length in enumerate((5, 6)):
        one, _ = torch_npu.npu_fused_infer_attention_score(
            nope[i].view(1, HEADS, 1, 6), caches[0], caches[0], query_rope=pe[i].view(1, HEADS, 1, 2),
            input_layout="BNSD", actual_seq_lengths_kv=[length], **common,
        )  # fmt: skip
        torch.testing.assert_close(both[i], one[0, :, 0])


@pytest.mark.parametrize(("given", "made", "order"), [("BNSD", "NBSD", (1, 0, 2, 3)), ("TND", "NTD", (1, 0, 2))])
def test_the_second_version_gives_another_layout(given: str, made: str, order: tuple[int, ...]) -> None:
    shape = {"BNSD": (2, HEADS, 1, 6), "TND": (2, HEADS, 6)}[given]
    caches = [torch.randn(4, 1, BLOCK, width) for width in (6, 2)]
    nope, pe = torch.randn(shape), torch.randn(*shape[:-1], 2)
    common = {
        "query_rope": pe, "key_rope": caches[1], "num_key_value_heads": 1, "block_size": BLOCK, "sparse_mode": 0,
        "block_table": torch.tensor([[2, 0], [3, 1]]),
    }  # fmt: skip
    first, _ = torch_npu.npu_fused_infer_attention_score(
        nope, caches[0], caches[0], num_heads=HEADS, scale=SCALE, input_layout=given, actual_seq_lengths=[1, 2],
        actual_seq_lengths_kv=[5, 3], **common,
    )  # fmt: skip
    renamed = {
        "num_query_heads": HEADS, "softmax_scale": SCALE, "input_layout": f"{given}_{made}", "actual_seq_qlen": [1, 2],
        "actual_seq_kvlen": [5, 3],
    }  # fmt: skip
    second, _ = torch_npu.npu_fused_infer_attention_score_v2(nope, caches[0], caches[0], **renamed, **common)
    torch.testing.assert_close(second, first.permute(order))
    out = torch.empty_like(second)
    torch_npu.npu_fused_infer_attention_score_v2.out(
        nope, caches[0], caches[0], **renamed, **common, workspace=None, out=[out, torch.empty(1)]
    )
    torch.testing.assert_close(out, second)


def test_batches_of_products_in_another_order() -> None:
    x, weight = torch.randn(3, 4, 5), torch.randn(3, 5, 2)
    made = torch_npu.npu_transpose_batchmatmul(x, weight, perm_y=(1, 0, 2))
    torch.testing.assert_close(made, torch.einsum("bmk,bkn->mbn", x, weight))


def test_ring_steps_join() -> None:
    queries, earlier, nope, rope = [3, 2], [4, 1], 6, 2
    q = [torch.randn(5, HEADS, width) for width in (nope, rope)]
    now = [torch.randn(5, HEADS, width) for width in (nope, rope, 5)]
    before = [torch.randn(5, HEADS, width) for width in (nope, rope, 5)]
    out, lse = torch.zeros(5, HEADS, 5), torch.zeros(HEADS, 5)
    common = {
        "head_num": HEADS, "kv_head_num": HEADS, "qk_scale": SCALE, "kernel_type": "", "input_layout": "type_bsnd",
        "mask": None, "output": out, "softmax_lse": lse,
    }  # fmt: skip
    torch_npu.atb.npu_ring_mla(
        *q, *now, seqlen=torch.tensor(queries), pre_out=None, prev_lse=None, mask_type="mask_type_triu",
        calc_type="calc_type_first_ring", **common,
    )  # fmt: skip
    torch_npu.atb.npu_ring_mla(
        *q, *before, seqlen=torch.tensor([queries, earlier]), pre_out=out, prev_lse=lse, mask_type="no_mask",
        calc_type="calc_type_default", **common,
    )  # fmt: skip
    parts = [[x.split(n) for x in xs] for xs, n in ((q, queries), (before, earlier), (now, queries))]
    want = []
    for i in range(2):
        query = torch.cat([x[i] for x in parts[0]], -1)
        key = torch.cat([torch.cat((b[i], n[i])) for b, n in zip(parts[1][:2], parts[2][:2], strict=True)], -1)
        want.append(_reference(query, key, torch.cat((parts[1][2][i], parts[2][2][i])), causal=True))
    torch.testing.assert_close(out, torch.cat(want))


def test_latent_cache_is_written_normed_and_rotated() -> None:
    latent, rope, tokens = 32, 16, 3
    kv, gamma = torch.randn(tokens, 1, 1, latent + rope), torch.rand(latent) + 0.5
    angle = torch.rand(tokens, 1, 1, rope // 2).repeat(1, 1, 1, 2)
    slots = torch.tensor([5, -1, 2])
    caches = {}
    for mode in ("PA", "PA_NZ"):
        k_cache, c_cache = torch.zeros(2, BLOCK, 1, rope), torch.zeros(2, BLOCK, 1, latent)
        _, _, k, c = torch_npu.npu_kv_rmsnorm_rope_cache(
            kv, gamma, angle.cos(), angle.sin(), slots, k_cache, c_cache, epsilon=1e-6, cache_mode=mode,
            is_output_kv=True,
        )  # fmt: skip
        caches[mode] = (k_cache, c_cache, k, c)
    k_cache, c_cache, k, c = caches["PA"]
    torch.testing.assert_close(c, torch.nn.functional.rms_norm(kv[..., :latent], (latent,), gamma, 1e-6))
    even, odd = kv[..., latent::2], kv[..., latent + 1 :: 2]
    cos, sin = angle.cos()[..., : rope // 2], angle.sin()[..., : rope // 2]
    torch.testing.assert_close(k, torch.cat((even * cos - odd * sin, odd * cos + even * sin), -1))
    for cache, rows in ((k_cache, k), (c_cache, c)):
        flat = cache.view(2 * BLOCK, -1)
        assert torch.equal(flat[[5, 2]], rows.view(tokens, -1)[[0, 2]])
        assert flat.count_nonzero() == flat[[5, 2]].count_nonzero()
    tiles = caches["PA_NZ"][1].view(2, latent // 16, BLOCK, 16)
    torch.testing.assert_close(tiles.permute(0, 2, 1, 3).reshape(2 * BLOCK, latent), c_cache.view(2 * BLOCK, latent))
