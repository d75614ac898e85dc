# SPDX-License-Identifier: Apache-2.0
"""Logits of prompts over a parallel head: every rank joins as many rounds, and gets its own rows' logits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend.data_parallel import prompt_logits, upstream
from vllm_ascend.data_parallel.metadata import LocalBatch
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.prompt_logits import ROWS_PER_ROUND, PromptLogits, most_rounds, prompt_rows, rounds_for

WIDTH = 3


class Rank(PromptLogits):
    """A runner whose head doubles its rows, and remembers how many it was handed in each round."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.model = self

    def compute_logits(self, rows: torch.Tensor, *_: Any) -> torch.Tensor:
        self.rounds.append(rows.shape[0])
        return 2 * rows

    def begin(self, rounds: int) -> None:
        self.step = StepPlan(LocalBatch(1, False, prompt_rounds=rounds).alone(), 0)


requests = st.lists(
    st.tuples(st.integers(1, 600), st.integers(0, 600), st.integers(1, 600)), max_size=5
)  # tokens of the prompt, computed, scheduled


@pytest.fixture(autouse=True)
def parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "lm_head_parallel", lambda: True)


def asked(rank: Rank, mine: list[tuple[int, int, int]]) -> int:
    """The rounds that a rank says before the step."""
    names = [str(number) for number in range(len(mine))]
    rank.requests = {
        name: SimpleNamespace(prompt_token_ids=[0] * prompt, num_computed_tokens=computed)
        for name, (prompt, computed, _) in zip(names, mine)
    }
    rank.input_batch = SimpleNamespace(num_prompt_logprobs=dict.fromkeys(names, 1))
    scheduled = {name: count for name, (_, _, count) in zip(names, mine)}
    return rank._prompt_rounds(SimpleNamespace(num_scheduled_tokens=scheduled))


@settings(deadline=None)
@given(st.lists(requests, min_size=1, max_size=4))
def test_ranks_run_the_same_rounds_of_one_size_whatever_they_were_asked(of_ranks: list[list[Any]]) -> None:
    ranks = [Rank() for _ in of_ranks]
    rounds = [asked(rank, mine) for rank, mine in zip(ranks, of_ranks)]
    for rank, mine in zip(ranks, of_ranks):
        rank.begin(max(rounds))
        for request in mine:
            count = prompt_rows(*request)
            if count:
                rows = torch.rand(count, WIDTH)
                assert torch.equal(rank.prompt_logits(rows), 2 * rows)
        rank.join_prompt_logits(torch.zeros(1, WIDTH))
        assert rank.rounds == [ROWS_PER_ROUND] * max(rounds)
    for rank in ranks:  # a second step begins anew
        rank.begin(1)
        rank.join_prompt_logits(torch.zeros(1, WIDTH))
        assert len(rank.rounds) == max(rounds) + 1


@pytest.mark.parametrize(
    ("prompt", "computed", "scheduled", "rows"),
    [(150, 0, 150, 149), (150, 0, 64, 64), (150, 128, 22, 21), (5, 7, 1, 0)],
)
def test_rows_of_a_chunk(prompt: int, computed: int, scheduled: int, rows: int) -> None:
    assert prompt_rows(prompt, computed, scheduled) == rows


@given(st.lists(st.integers(1, 600), min_size=1, max_size=40))
def test_no_batch_needs_more_rounds_than_can_be_told(rows: list[int]) -> None:
    assert sum(map(rounds_for, rows)) <= most_rounds(sum(rows), len(rows))


def test_a_whole_head_takes_each_prompt_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_logits.upstream, "lm_head_parallel", lambda: False)
    rank = Rank()
    assert asked(rank, [(600, 0, 600)]) == 0
    rank.begin(0)
    rank.prompt_logits(torch.zeros(599, WIDTH))
    rank.join_prompt_logits(torch.zeros(1, WIDTH))
    assert rank.rounds == [599]
