# SPDX-License-Identifier: Apache-2.0
"""Fused attention with its log-sum-exp, by which parts are joined: of paged keys, and of dense ones with columns of a
rotation."""

from itertools import pairwise

import torch
import torch_npu

HEADS, PLAIN, ROTATED, WIDTH = 2, 8, 4, 6
QUERIES, KEYS = (2, 3), (5, 3)


def _ends(lengths: tuple[int, ...]) -> list[int]:
    return torch.tensor(lengths).cumsum(0).tolist()


def _made(rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, HEADS, width)


def test_decodes_over_keys_of_two_ranks_join() -> None:
    torch.manual_seed(0)
    block, lengths = 4, (7, 1)
    query = torch.randn(len(lengths), HEADS, WIDTH)
    caches = torch.randn(2, 6, block, WIDTH)
    table = torch.tensor([[3, 1], [4, 0]])

    def attention(held: list[int], of: int) -> tuple[torch.Tensor, torch.Tensor]:
        """To what one of two ranks holds, every other token; to all of them, where ``of`` is 2."""
        taken = slice(None) if of == 2 else slice(of, None, 2)
        own = torch.full_like(caches, float("nan"))
        for row, length in enumerate(held):
            rows = caches[:, table[row]].flatten(1, 2)[:, taken][:, :length]
            blocks = torch.nn.functional.pad(rows, (0, 0, 0, 2 * block - length)).unflatten(1, (2, block))
            own[:, table[row]] = blocks
        named = {
            "num_heads": HEADS,
            "num_key_value_heads": 1,
            "input_layout": "TND",
            "scale": 0.5,
            "softmax_lse_flag": True,
            "block_table": table,
            "block_size": block,
            "actual_seq_lengths": torch.arange(len(lengths)) + 1,
            "actual_seq_lengths_kv": held,
        }
        out, lse = torch.ops.npu.npu_fused_infer_attention_score(query, *own, **named)
        into = [torch.zeros_like(out), torch.zeros_like(lse)]
        torch_npu.npu_fused_infer_attention_score.out(query, *own, **named, out=into)
        torch.testing.assert_close(into, [out, lse])
        return out, lse

    whole, lse = attention([*lengths], 2)
    first, second = attention([4, 1], 0), attention([3, 0], 1)
    assert lse.shape == (len(lengths), HEADS, 1)
    assert lse.dtype == torch.float32
    assert not second[0][1].any()  # a rank without keys of a sequence
    assert (second[1][1] == float("-inf")).all()
    joined, of_all = torch_npu.npu_attention_update(
        [its.flatten() for _, its in (first, second)], [one.flatten(0, 1) for one, _ in (first, second)], 0
    )
    torch.testing.assert_close(joined, whole.flatten(0, 1))
    torch.testing.assert_close(of_all, lse.flatten())


def test_whole_and_in_parts() -> None:
    torch.manual_seed(0)
    query, query_rope = _made(sum(QUERIES), PLAIN), _made(sum(QUERIES), ROTATED)
    key, key_rope, value = (_made(sum(KEYS), width) for width in (PLAIN, ROTATED, WIDTH))

    def attention(chosen: list[slice], **named: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each sequence to some of its keys."""
        starts = [0, *_ends(KEYS)]
        rows = torch.cat([torch.arange(*ends)[one] for ends, one in zip(pairwise(starts), chosen, strict=True)])
        lengths = tuple(len(range(length)[one]) for length, one in zip(KEYS, chosen, strict=True))
        return torch_npu.npu_fused_infer_attention_score(  # type: ignore[no-any-return]
            *(query, key[rows], value[rows]),
            query_rope=query_rope,
            key_rope=key_rope[rows],
            actual_seq_lengths=_ends(QUERIES),
            actual_seq_lengths_kv=_ends(lengths),
            num_heads=HEADS,
            num_key_value_heads=HEADS,
            input_layout="TND",
            scale=0.5,
            softmax_lse_flag=True,
            **named,
        )

    every = [slice(None)] * 2
    out, lse = attention(every)
    assert out.shape == (sum(QUERIES), HEADS, WIDTH) and lse.shape == (sum(QUERIES), HEADS, 1)
    scores = 0.5 * torch.cat((query, query_rope), -1)[4, 1] @ torch.cat((key, key_rope), -1)[5:, 1].T
    torch.testing.assert_close(out[4, 1], scores.softmax(-1) @ value[5:, 1])
    torch.testing.assert_close(lse[4, 1, 0], scores.logsumexp(-1))

    halves = [attention([slice(0, 2), slice(0, 0)]), attention([slice(2, None), slice(None)])]
    flat = [(one.flatten(0, 1), its.flatten()) for one, its in halves]
    joined, of_all = torch_npu.npu_attention_update([its for _, its in flat], [one for one, _ in flat], 0)
    torch.testing.assert_close(joined, out.flatten(0, 1))
    torch.testing.assert_close(of_all, lse.flatten())

    causal, _ = attention(every, sparse_mode=3)
    torch.testing.assert_close(causal[4], out[4])
    assert not torch.allclose(causal[3], out[3])


def test_a_query_beyond_the_sequences_has_no_keys() -> None:
    """As rows of a drafter that stand for no request, with a block table of the requests alone."""
    query, caches = torch.randn(3, HEADS, 1, WIDTH), torch.randn(2, 6, 4, WIDTH)
    named = {"num_heads": HEADS, "num_key_value_heads": 1, "input_layout": "BNSD", "block_size": 4}
    table, lengths = torch.tensor([[3, 1]]), [7]
    out, _ = torch_npu.npu_fused_infer_attention_score(
        query, *caches, **named, block_table=table, actual_seq_lengths_kv=lengths
    )
    alone, _ = torch_npu.npu_fused_infer_attention_score(
        query[:1], *caches, **named, block_table=table, actual_seq_lengths_kv=lengths
    )
    torch.testing.assert_close(out[:1], alone)
    assert not out[1:].any()
