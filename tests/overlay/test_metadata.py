# SPDX-License-Identifier: Apache-2.0
"""Summing the packed batches of all ranks gives every rank the same, right metadata."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata, packed_size

batches = st.builds(
    LocalBatch,
    num_tokens=st.integers(0, 2**20),
    with_prefill=st.booleans(),
    enable_dbo=st.booleans(),
    graph_usable=st.booleans(),
)


def reduce_sum(ranks: list[LocalBatch]) -> list[int]:
    """What a SUM all-reduce leaves on every rank."""
    packed = [batch.pack(rank, len(ranks)) for rank, batch in enumerate(ranks)]
    return [sum(column) for column in zip(*packed)]


@given(st.lists(batches, min_size=1, max_size=64))
def test_every_rank_learns_counts_any_prefill_all_dbo_all_graph(ranks: list[LocalBatch]) -> None:
    packed = reduce_sum(ranks)
    assert len(packed) == packed_size(len(ranks))
    assert StepMetadata.unpack(packed) == StepMetadata(
        tokens_per_rank=tuple(batch.num_tokens for batch in ranks),
        with_prefill=any(batch.with_prefill for batch in ranks),
        enable_dbo=all(batch.enable_dbo for batch in ranks),
        graph_usable=all(batch.graph_usable for batch in ranks),
    )


@given(batches)
def test_a_rank_alone_is_the_case_of_one_rank(batch: LocalBatch) -> None:
    assert batch.alone() == StepMetadata.unpack(reduce_sum([batch]))


def test_the_largest_count_is_unpadded() -> None:
    ranks = [LocalBatch(3, False), LocalBatch(700, True), LocalBatch(1, False)]
    assert StepMetadata.unpack(reduce_sum(ranks)).max_num_tokens == 700
