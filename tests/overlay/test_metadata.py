# SPDX-License-Identifier: Apache-2.0
"""Summing the packed batches of all ranks, word by word, gives every rank the same, right metadata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_ascend.data_parallel.metadata import BitFields, GraphMode, LocalBatch, StepMetadata


def batches(max_num_tokens: int, max_prompt_rounds: int = 0) -> st.SearchStrategy[LocalBatch]:
    flag = st.booleans()
    drawn = st.tuples(st.integers(1, max_num_tokens), flag, flag, flag, st.integers(0, max_prompt_rounds))
    return drawn.map(lambda told: LocalBatch(*told))


@st.composite
def ranks_of_a_step(draw: st.DrawFn) -> tuple[BitFields, list[LocalBatch]]:
    max_num_tokens = draw(st.integers(1, 2**20))
    max_prompt_rounds = draw(st.sampled_from([0, 1, 9, 320]))
    ranks = draw(st.lists(batches(max_num_tokens, max_prompt_rounds), min_size=1, max_size=64))
    ranks *= draw(st.sampled_from([1, 5]))  # more than 128 ranks are read otherwise
    return BitFields(len(ranks), max_num_tokens, max_prompt_rounds), ranks


def reduce_sum(fields: BitFields, ranks: list[LocalBatch], word_bits: int) -> int:
    """What a SUM all-reduce of signed words leaves on every rank; overflow wraps, as hardware does."""
    length = -(-fields.num_bits // word_bits) * word_bits // 8
    step = word_bits // 8
    summands = [fields.pack(batch, rank).to_bytes(length, "little") for rank, batch in enumerate(ranks)]
    total = b""
    for at in range(0, length, step):
        words = [int.from_bytes(one[at : at + step], "little", signed=True) for one in summands]
        total += (sum(words) % 2**word_bits).to_bytes(step, "little")
    return int.from_bytes(total, "little")


@given(ranks_of_a_step(), st.sampled_from([32, 64]))
def test_every_rank_learns_counts_any_prefill_all_dbo_all_graph(
    step: tuple[BitFields, list[LocalBatch]], word_bits: int
) -> None:
    fields, ranks = step
    assert fields.unpack(reduce_sum(fields, ranks, word_bits)) == StepMetadata(
        tokens_per_rank=tuple(batch.num_tokens for batch in ranks),
        with_prefill=any(batch.with_prefill for batch in ranks),
        enable_dbo=all(batch.enable_dbo for batch in ranks),
        graph_usable=all(batch.graph_usable for batch in ranks),
        prompt_rounds=max(batch.prompt_rounds for batch in ranks),
    )


@given(batches(8192))
def test_a_rank_alone_is_the_case_of_one_rank(batch: LocalBatch) -> None:
    fields = BitFields(1, 8192)
    assert batch.alone() == fields.unpack(fields.pack(batch, 0))


def test_the_largest_count_is_unpadded() -> None:
    fields, ranks = BitFields(3, 700), [LocalBatch(3, False), LocalBatch(700, True), LocalBatch(1, False)]
    assert fields.unpack(reduce_sum(fields, ranks, 32)).max_num_tokens == 700


@pytest.mark.parametrize(("max_num_tokens", "width"), [(1, 3), (2, 4), (8192, 16), (8193, 17), (32768, 18)])
def test_a_field_is_as_wide_as_the_largest_batch_needs(max_num_tokens: int, width: int) -> None:
    assert BitFields(32, max_num_tokens).num_bits == 32 * width


@pytest.mark.parametrize("num_tokens", [0, -1, 65])
def test_a_batch_that_its_field_cannot_hold_is_refused_before_it_spoils_another_s(num_tokens: int) -> None:
    with pytest.raises(ValueError, match=rf"a batch of {num_tokens} tokens; from 1 to 64 can be told"):
        BitFields(2, 64).pack(LocalBatch(num_tokens, False), 0)


def test_more_prompt_rounds_than_can_be_told_are_refused() -> None:
    with pytest.raises(ValueError, match="5 prompt rounds; up to 4 can be told"):
        BitFields(2, 64, 4).pack(LocalBatch(1, False, prompt_rounds=5), 0)


def test_a_thousand_ranks_with_the_largest_batches_fill_every_bit_and_none_twice() -> None:
    fields = BitFields(1024, 131072)
    full = LocalBatch(131072, True, True, True)
    packed = [fields.pack(full, rank) for rank in range(1024)]
    assert sum(packed) == 2**fields.num_bits - 1
    assert fields.unpack(sum(packed)) == StepMetadata((131072,) * 1024, True, True, True)


class Counted(int):
    """A string of bits that counts how often the whole of it is shifted; each time copies it."""

    shifts = 0

    def __rshift__(self, other: int) -> int:
        Counted.shifts += 1
        return int(self) >> other


@pytest.mark.parametrize("max_prompt_rounds", [0, 9])
def test_of_many_ranks_the_whole_string_is_not_copied_for_each(max_prompt_rounds: int) -> None:
    fields = BitFields(1024, 8192, max_prompt_rounds)
    ranks = [LocalBatch(rank + 1, False, prompt_rounds=min(rank, max_prompt_rounds)) for rank in range(1024)]
    packed = Counted(sum(fields.pack(batch, rank) for rank, batch in enumerate(ranks)))
    Counted.shifts = 0
    assert fields.unpack(packed) == StepMetadata(tuple(range(1, 1025)), False, False, False, max_prompt_rounds)
    assert Counted.shifts == 0


@given(st.lists(st.sampled_from(GraphMode), min_size=1, max_size=200), st.integers(1, 2**20))
def test_ranks_with_graphs_of_two_kinds_learn_the_least(modes: list[GraphMode], max_num_tokens: int) -> None:
    fields = BitFields(len(modes), max_num_tokens, whole_graphs=True)
    ranks = [
        LocalBatch(max_num_tokens, False, graph_usable=mode > GraphMode.NONE, whole_graph=mode is GraphMode.FULL)
        for mode in modes
    ]
    found = fields.unpack(reduce_sum(fields, ranks, 32))
    assert found.graph_mode is min(modes)
    assert found.tokens_per_rank == (max_num_tokens,) * len(modes)
    assert all(batch.alone().graph_mode is mode for batch, mode in zip(ranks, modes))


def test_where_graphs_are_of_one_kind_none_is_told_from_another() -> None:
    one, two = BitFields(2, 64), BitFields(2, 64, whole_graphs=True)
    batch = LocalBatch(3, False, graph_usable=True, whole_graph=True)
    assert two.num_bits == one.num_bits + 2
    assert one.unpack(one.pack(batch, 0) + one.pack(batch, 1)).graph_mode is GraphMode.PIECEWISE
