# SPDX-License-Identifier: Apache-2.0
"""Attention over dense keys whose rotated columns come by themselves, whole and in parts."""

from itertools import pairwise

import torch
import torch_npu

HEADS, PLAIN, ROTATED, WIDTH = 2, 8, 4, 6
QUERIES, KEYS = (2, 3), (5, 3)


def _ends(lengths: tuple[int, ...]) -> list[int]:
    return torch.tensor(lengths).cumsum(0).tolist()


def _made(rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, HEADS, width)


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
