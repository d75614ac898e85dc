# SPDX-License-Identifier: Apache-2.0
"""What else depends on a step's decision in releases with dense drafters and loads of experts that count by rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from test_decisions import Deployment, Rank, Wire, Work, choices, decide
from vllm.config import CUDAGraphMode

from vllm_ascend.data_parallel import release, upstream
from vllm_ascend.data_parallel import runner as module
from vllm_ascend.data_parallel.metadata import BitFields, LocalBatch, StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.row_groups import RowGroup


@pytest.mark.parametrize(
    ("experts", "gathers", "method", "exchanges"),
    [
        (True, False, "mtp", True),
        (False, False, "eagle3", False),
        (False, True, "eagle3", True),
        (False, True, "extract_hidden_states", False),
    ],
)
def test_a_drafter_that_exchanges_nothing_replays_its_own_graph(
    monkeypatch: pytest.MonkeyPatch, experts: bool, gathers: bool, method: str, exchanges: bool
) -> None:
    monkeypatch.setattr(module, "should_skip_allreduce_across_dp_group", lambda *_: False)
    monkeypatch.setattr(release, "is_drafter_moe_model", lambda _: experts)
    monkeypatch.setattr(upstream, "row_group_sizes", lambda *_: {RowGroup.MLP: 2 * gathers})
    rank = Rank(Deployment(), 0, 2)
    rank.vllm_config.speculative_config.method = method
    rank.pcp_size, rank.drafter = 1, SimpleNamespace(needs_extra_input_slots=False)
    for graph in (False, True):
        rank.step = StepPlan(StepMetadata((3, 1), False, False, graph), 0)
        assert rank.drafter_follows_step is exchanges
        assert rank.drafter_may_replay is (graph or not exchanges)


@pytest.mark.parametrize(("stage", "reduces"), [("prefill", True), ("decode", True), ("all", False)])
def test_loads_of_experts_that_count_by_rows_need_the_counts_of_all(
    monkeypatch: pytest.MonkeyPatch, stage: str, reduces: bool
) -> None:
    monkeypatch.setattr(module, "should_skip_allreduce_across_dp_group", lambda *_: True)
    monkeypatch.setattr(upstream, "row_group_sizes", lambda *_: {})
    monkeypatch.setattr(module, "is_moe_model", lambda _: True)
    monkeypatch.setattr(module, "enable_sp", lambda _: False)
    monkeypatch.setattr(module, "enable_sp_by_pass", lambda: False)
    monkeypatch.setattr(module, "moe_comm_config", lambda _: choices(None))
    monkeypatch.setattr(module, "expects_equal_rows", lambda *_: False)
    rank = Rank(Deployment(graphs=False), 1, 2)
    rank.dynamic_eplb, rank.eplb_heat_collection_stage = True, stage
    fields = BitFields(2, 9000, whole_graphs=True)
    others = Wire(fields.pack(LocalBatch(200, False), 0) | fields.pack(LocalBatch(2, False), 1), fields, 1)
    found = decide(rank, Work(2, CUDAGraphMode.NONE), others)
    assert bool(others.packed) is reduces
    assert rank.most_rows(found.rows) == (200 if reduces else 2)
    assert found.rows == 2 and found.all_rows == (2, 2), "by the largest rank's rows MC2 would send as many"
