# SPDX-License-Identifier: Apache-2.0
"""A parallel lm head is gathered where it is split, and there alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm_ascend.ops import vocab_parallel_embedding
from vllm_ascend.ops.vocab_parallel_embedding import AscendLogitsProcessor

from vllm_ascend.data_parallel import lm_head

RANKS, VOCABULARY, HIDDEN, ROWS = 4, 64, 8, 3


class Group:
    """Every rank of the group has this one's rows, and its part of the vocabulary."""

    def __init__(self) -> None:
        self.gathered: list[tuple[int, ...]] = []

    def all_gather(self, rows: torch.Tensor, dim: int) -> torch.Tensor:
        self.gathered.append(tuple(rows.shape))
        return torch.cat([rows] * RANKS, dim=dim)

    def all_to_all(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat(logits.chunk(RANKS), dim=-1)


@pytest.mark.parametrize(("split", "gathered"), [(True, [(ROWS, HIDDEN)]), (False, [])])
def test_a_head_that_is_the_embedding_too_gathers_nothing(
    monkeypatch: pytest.MonkeyPatch, split: bool, gathered: list[tuple[int, ...]]
) -> None:
    """It is whole on every rank: with a group of four, each would compute all four ranks' logits, and keep one's."""
    group = Group()
    monkeypatch.setattr(vocab_parallel_embedding, "get_lmhead_tp_group", lambda: group)
    monkeypatch.setattr(vocab_parallel_embedding, "lmhead_tp_enable", lambda: True)
    for name in ("_get_logits", "_get_logits_lmheadtp", "_get_logits_normal"):  # so that each is given back
        monkeypatch.setattr(LogitsProcessor, name, getattr(LogitsProcessor, name, None), raising=False)
    lm_head.install_logits_processor(AscendLogitsProcessor)
    weight = torch.randn(VOCABULARY // RANKS if split else VOCABULARY, HIDDEN)
    computed: list[int] = []

    def apply(head: Any, rows: torch.Tensor, bias: Any) -> torch.Tensor:
        computed.append(len(rows))
        return rows @ head.weight.T

    head = SimpleNamespace(
        weight=weight, num_embeddings_padded=VOCABULARY, quant_method=SimpleNamespace(apply=apply), tp_size=1
    )
    processor: Any = LogitsProcessor(VOCABULARY)
    monkeypatch.setattr(processor, "_gather_logits", lambda logits: logits)
    rows = torch.randn(ROWS, HIDDEN)
    logits = processor._get_logits(rows, head, None)
    assert group.gathered == gathered
    assert computed == [ROWS * RANKS if split else ROWS]
    assert logits.shape == (ROWS, VOCABULARY)
    if not split:
        assert torch.equal(logits, rows @ weight.T)
