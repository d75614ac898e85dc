# SPDX-License-Identifier: Apache-2.0
"""How many rows each rank computes."""

from __future__ import annotations

import torch

from vllm_ascend.data_parallel.metadata import StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan


def metadata(*tokens: int, with_prefill: bool = False, graph_usable: bool = False) -> StepMetadata:
    return StepMetadata(tokens, with_prefill, enable_dbo=False, graph_usable=graph_usable)


def test_a_rank_keeps_its_own_count_where_nothing_needs_a_uniform_one() -> None:
    plans = [StepPlan(metadata(4, 8192, 1, with_prefill=True), rank) for rank in range(3)]
    assert [plan.num_input_tokens for plan in plans] == [4, 8192, 1]
    assert {plan.padded_tokens_per_rank for plan in plans} == {(4, 8192, 1)}


def test_a_uniform_size_is_every_rank_s() -> None:
    plans = [StepPlan(metadata(3, 5, graph_usable=True), rank, uniform_size=8) for rank in range(2)]
    assert [plan.num_input_tokens for plan in plans] == [8, 8]
    assert all(plan.use_graph for plan in plans)


def test_vllm_gets_the_padded_counts_as_an_int32_tensor_on_the_cpu() -> None:
    counts = StepPlan(metadata(3, 5), 1).num_tokens_across_dp
    assert counts is not None
    assert counts.dtype is torch.int32
    assert counts.device.type == "cpu"
    assert counts.tolist() == [3, 5]
    assert StepPlan(metadata(3), 0, uniform_size=4).num_tokens_across_dp is None


def test_a_drafter_computes_the_step_s_rows_where_other_ranks_count_on_them() -> None:
    rows, counts = StepPlan(metadata(6, 2), 0).drafter_rows(5)
    assert rows == 6 and counts is not None and counts.tolist() == [6, 2]
    assert StepPlan(metadata(2, 2), 0).drafter_rows(8)[0] == 2  # 8: padded to a graph, which an idle rank has not
    assert StepPlan(metadata(6), 0).drafter_rows(5) == (5, None)


def test_a_drafter_computes_its_own_rows_where_its_attention_takes_no_others() -> None:
    for uniform_size, of_each in ((None, [5, 2]), (6, [6, 6])):
        rows, counts = StepPlan(metadata(6, 2), 0, uniform_size, drafter_pads=False).drafter_rows(5)
        assert rows == of_each[0] and counts is not None and counts.tolist() == of_each
