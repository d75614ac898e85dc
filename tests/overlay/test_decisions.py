# SPDX-License-Identifier: Apache-2.0
"""The mixin of a runner with graphs of two kinds, driven by many ranks in one process: whatever they bring, they decide
alike."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm.config import CUDAGraphMode

from vllm_ascend.data_parallel import release, row_groups, upstream
from vllm_ascend.data_parallel import runner as module
from vllm_ascend.data_parallel.metadata import BitFields, LocalBatch, StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommConfig, mc2_capacity
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import NoRecorder
from vllm_ascend.data_parallel.row_groups import RowGroup
from vllm_ascend.data_parallel.runner import DataParallelStep
from vllm_ascend.data_parallel.synchronizer import PendingStep

SIZES = [1, 2, 4, 8, 16]
NONE, PIECEWISE, FULL = CUDAGraphMode.NONE, CUDAGraphMode.PIECEWISE, CUDAGraphMode.FULL


@dataclass(frozen=True)
class Deployment:
    """Settings that all ranks share; ``skips`` is upstream's rule of where it synchronises nothing, ``mc2_rows`` the
    most that a rank may give MC2, where more are exchanged in another way, and ``largest_decode`` in tokens."""

    mc2_rows: int | None = None
    largest_decode: int = 16
    graphs: bool = True
    skips: bool = False
    experts: bool = True
    mlp_parallel: bool = False
    sequence_parallel: bool = False
    adds_no_rows: bool = False


@dataclass(frozen=True)
class Work:
    """What one rank brings: its tokens, and the most of a graph that it could replay."""

    tokens: int
    mode: CUDAGraphMode

    def dispatch(self, rows: int, modes: set[CUDAGraphMode]) -> tuple[CUDAGraphMode, Any]:
        """Upstream's dispatcher: a graph of one of these kinds, no larger than what this rank could replay."""
        (mode,) = modes
        if mode is NONE:
            return NONE, SimpleNamespace(num_tokens=rows)
        assert mode.value <= self.mode.value, "a graph that this rank does not have"
        return mode, SimpleNamespace(num_tokens=next(size for size in SIZES if size >= rows))


@dataclass(frozen=True)
class Decided:
    mode: CUDAGraphMode
    rows: int
    all_rows: tuple[int, ...]


class Wire:
    """A synchroniser whose sum is the sum of what all ranks have brought."""

    def __init__(self, summed: int | None, fields: BitFields, rank: int) -> None:
        self.summed, self.fields, self.rank, self.packed = summed, fields, rank, 0
        self.process_group: object = None

    def issue(self, batch: LocalBatch) -> PendingStep:
        self.packed = self.fields.pack(batch, self.rank)
        self.packed.to_bytes(64, "little")  # as it travels
        summed = self.packed if self.summed is None else self.summed
        return PendingStep(known=self.fields.unpack(summed))


class Rank(DataParallelStep):
    # No method of this file's, which would be another program's.
    _sync_batch_across_dp = _sync_metadata_across_dp = len

    def __init__(self, deployment: Deployment, rank: int, ranks: int) -> None:
        self.dp_rank, self.dp_size = rank, ranks
        self.vllm_config = SimpleNamespace(speculative_config=SimpleNamespace(method="mtp"))
        self.dynamic_eplb = False
        self.compilation_config = SimpleNamespace(cudagraph_mode=FULL if deployment.graphs else NONE)
        self.max_num_tokens, self.max_num_reqs, self.uniform_decode_query_len = 9000, deployment.largest_decode, 1
        self.pcp_size, self.drafter = 1, SimpleNamespace(needs_extra_input_slots=False)


def choices(mc2_rows: int | None) -> MoECommConfig:
    """Of a release that multicasts up to so many rows of a rank; None for any number."""
    beyond = MoEComm.MC2 if mc2_rows is None else MoEComm.ALLTOALL
    return MoECommConfig("A3", 16, mc2_rows or 1, within=MoEComm.MC2, beyond=beyond)


def decide(rank: Rank, work: Work, wire: Wire) -> Decided:
    rank.__dict__["_synchronizer"] = wire
    mode, key, rows = rank.decide_step(work.tokens, work.mode, work.dispatch)
    assert rows.dtype == torch.int32 and rows.device.type == "cpu"
    return Decided(mode, key.num_tokens, tuple(rows.tolist()))


def run_step(deployment: Deployment, schedule: list[Work]) -> tuple[list[Decided], bool]:
    """What each rank decides, and whether they reduced anything."""
    fields = BitFields(len(schedule), 9000, whole_graphs=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "should_skip_allreduce_across_dp_group", lambda *_: deployment.skips)
        patch.setattr(module, "is_moe_model", lambda _: deployment.experts)
        patch.setattr(module, "enable_sp", lambda _: deployment.sequence_parallel)
        patch.setattr(module, "enable_sp_by_pass", lambda: False)
        patch.setattr(module, "expects_equal_rows", lambda *_: deployment.adds_no_rows)
        sizes = {RowGroup.MLP: len(schedule) * deployment.mlp_parallel}
        patch.setattr(upstream, "row_group_sizes", lambda *_: sizes)
        patch.setattr(module, "moe_comm_config", lambda _: choices(deployment.mc2_rows))
        summed, reduced = 0, False
        for rank, work in enumerate(schedule):
            told = Wire(None, fields, rank)
            alone = Work(work.tokens, work.mode)
            decide(Rank(deployment, rank, len(schedule)), alone, told)
            summed, reduced = summed + told.packed, reduced or bool(told.packed)
        found = [
            decide(Rank(deployment, rank, len(schedule)), work, Wire(summed, fields, rank))
            for rank, work in enumerate(schedule)
        ]
    return found, reduced


works = st.one_of(
    st.builds(Work, st.integers(1, 16), st.sampled_from([NONE, PIECEWISE, FULL])),
    st.builds(Work, st.integers(1, 9000), st.just(NONE)),
)
schedules = st.lists(works, min_size=2, max_size=16)
deployments = st.builds(Deployment, st.just(None), st.just(16), st.just(True), *[st.booleans()] * 4)


@given(deployments, schedules)
def test_all_ranks_replay_the_least_that_any_could(deployment: Deployment, schedule: list[Work]) -> None:
    if deployment.skips and not deployment.experts and not deployment.mlp_parallel:
        return  # ranks of a dense model exchange nothing
    found, _ = run_step(deployment, schedule)
    assert {one.mode for one in found} == {min((work.mode for work in schedule), key=lambda mode: mode.value)}


@given(deployments, schedules)
def test_ranks_that_exchange_rows_know_each_others(deployment: Deployment, schedule: list[Work]) -> None:
    if deployment.skips and not deployment.mlp_parallel:
        return
    found, _ = run_step(deployment, schedule)
    assert len({one.all_rows for one in found}) == 1
    assert found[0].all_rows == tuple(one.rows for one in found)
    largest = max(work.tokens for work in schedule)
    if found[0].mode is not NONE:
        assert {one.rows for one in found} == {next(size for size in SIZES if size >= largest)}
    elif deployment.mlp_parallel or deployment.sequence_parallel:
        assert {one.rows for one in found} == {largest}
    else:
        assert [one.rows for one in found] == [work.tokens for work in schedule]


@given(schedules)
def test_where_layers_cannot_have_rows_added_all_have_the_largest_ranks(schedule: list[Work]) -> None:
    found, _ = run_step(Deployment(adds_no_rows=True), schedule)
    assert len({one.rows for one in found}) == 1
    assert found[0].rows >= max(work.tokens for work in schedule)


@pytest.mark.parametrize(
    ("gate", "returned", "within", "xlite", "graphs", "eager", "expects"),
    [
        (False, False, MoEComm.MC2, None, FULL, False, False),
        (True, False, MoEComm.ALLGATHER, None, NONE, True, True),
        (False, True, MoEComm.MC2, None, NONE, True, True),
        (False, False, MoEComm.FUSED_MC2, None, NONE, True, True),
        (False, False, MoEComm.MC2, "full", FULL, False, True),
        (False, False, MoEComm.MC2, "full", FULL, True, False),
        (False, False, MoEComm.MC2, "full", NONE, False, False),
        (False, False, MoEComm.MC2, "decode only", FULL, False, False),
    ],
)
def test_which_layers_cannot(
    monkeypatch: pytest.MonkeyPatch,
    gate: bool,
    returned: bool,
    within: MoEComm,
    xlite: str | None,
    graphs: CUDAGraphMode,
    eager: bool,
    expects: bool,
) -> None:
    """Without graphs upstream's ranks have their own rows in xlite's full mode."""
    in_xlite = SimpleNamespace(enabled=xlite is not None, full_mode=xlite == "full")
    ascend = SimpleNamespace(multistream_overlap_gate=gate, xlite_graph_config=in_xlite)
    monkeypatch.setattr(row_groups, "get_ascend_config", lambda: ascend)
    model = SimpleNamespace(enable_return_routed_experts=returned, enforce_eager=eager)
    config = SimpleNamespace(model_config=model, compilation_config=SimpleNamespace(cudagraph_mode=graphs))
    assert row_groups.expects_equal_rows(config, MoECommConfig("A3", 16, 512, within=within)) is expects


@given(schedules)
def test_where_mc2_alone_exchanges_rows_each_has_its_own(schedule: list[Work]) -> None:
    found, _ = run_step(Deployment(skips=True), schedule)
    for one, work in zip(found, schedule):
        own = work.tokens if one.mode is NONE else next(size for size in SIZES if size >= work.tokens)
        assert one.rows == own and set(one.all_rows) == {own}


@given(schedules, st.booleans())
def test_beyond_mc2_s_rows_all_ranks_know_the_largest(schedule: list[Work], graphs: bool) -> None:
    """Whether graphs have them exchange something anyway, or decodes alone can be that many."""
    if not graphs:
        schedule = [Work(work.tokens, NONE) for work in schedule]
    found, _ = run_step(Deployment(mc2_rows=16, largest_decode=17, graphs=graphs, skips=True), schedule)
    largest = max(work.tokens for work in schedule)
    if largest > 16:
        assert {one.all_rows for one in found} == {tuple(work.tokens for work in schedule)}
    else:
        assert all(set(one.all_rows) == {one.rows} for one in found), "each as if all had its own"


@given(deployments, schedules)
def test_what_a_rank_made_of_its_own_rows_is_not_held_against_the_others(
    deployment: Deployment, schedule: list[Work]
) -> None:
    """Two decisions of one step are a deadlock, and each rank that sees them ends."""
    told: list[tuple[object, ...] | None] = []

    class Told(NoRecorder):
        def decided(self, plan: StepPlan, *, alone: bool = False) -> None:
            told.append(None if alone else (plan.metadata, plan.uniform_size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rank, "recorder", Told())
        patch.setattr(Rank, "_given_up", None)
        run_step(deployment, schedule)
    assert len(set(told[len(schedule) :])) == 1


@given(schedules)
def test_where_nothing_must_agree_each_replays_its_own_graph(schedule: list[Work]) -> None:
    found, reduced = run_step(Deployment(skips=True, experts=False), schedule)
    assert not reduced
    for one, work in zip(found, schedule):
        own = work.tokens if work.mode is NONE else next(size for size in SIZES if size >= work.tokens)
        assert one.mode is work.mode and one.rows == own


@pytest.mark.parametrize(
    ("deployment", "reduces"),
    [
        (Deployment(), True),
        (Deployment(skips=True), True),
        (Deployment(skips=True, graphs=False), False),
        (Deployment(skips=True, graphs=False, mc2_rows=16), False),
        (Deployment(skips=True, graphs=False, mc2_rows=15), True),
        (Deployment(skips=True, experts=False), False),
        (Deployment(skips=True, graphs=False, mlp_parallel=True), True),
    ],
)
def test_where_nothing_must_agree_nothing_is_reduced(deployment: Deployment, reduces: bool) -> None:
    mode = FULL if deployment.graphs else NONE
    assert run_step(deployment, [Work(3, mode), Work(1, mode)])[1] is reduces


@pytest.fixture
def nothing_pads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting by which upstream tells its exchange that a step without a graph can take more rows."""
    for name in ("enable_sp", "oproj_tp_enable", "embedding_tp_enable"):
        monkeypatch.setattr(release, name, lambda *_: False, raising=False)


class Exchange:
    """Another program's, in the place of upstream's: what it was told, and what it answers."""

    def __init__(self, rows: list[int] | None, mode: CUDAGraphMode) -> None:
        self.rows, self.mode = None if rows is None else torch.tensor(rows, dtype=torch.int32), mode
        self.told: list[tuple[int, CUDAGraphMode, bool]] = []

    def of_counts(self, num_tokens_padded: int, cudagraph_mode: int, allow_dp_padding: bool) -> Any:
        """By 0.18.0's steps."""
        self.told.append((num_tokens_padded, CUDAGraphMode(cudagraph_mode), allow_dp_padding))
        return False, self.rows, self.mode.value

    def of_metadata(self, num_tokens: int, cudagraph_mode: CUDAGraphMode, allow_dp_padding: bool) -> Any:
        """By 0.23.0's."""
        self.told.append((num_tokens, cudagraph_mode, allow_dp_padding))
        return num_tokens, self.rows, self.mode


@pytest.mark.usefixtures("nothing_pads")
@pytest.mark.parametrize(
    ("work", "rows", "mode", "told"),
    [
        (Work(3, FULL), [16, 16], FULL, (4, FULL, True)),
        (Work(3, FULL), [4, 900], NONE, (4, FULL, True)),
        (Work(900, NONE), [900, 4], NONE, (900, NONE, False)),
    ],
)
def test_the_exchange_of_another_program_decides(
    monkeypatch: pytest.MonkeyPatch, work: Work, rows: list[int], mode: CUDAGraphMode, told: tuple[Any, ...]
) -> None:
    """zero_interrupt's and AgentSDK's replace the method that upstream's steps ask."""
    exchange, rank = Exchange(rows, mode), Rank(Deployment(), 0, 2)
    ways = {"_sync_batch_across_dp": exchange.of_counts, "_sync_metadata_across_dp": exchange.of_metadata}
    replaced = next(name for name in ways if name in release.ReleaseStep.__annotations__)
    monkeypatch.setattr(Rank, replaced, ways[replaced])
    found_mode, key, across = rank.decide_step(work.tokens, work.mode, work.dispatch)
    assert exchange.told == [told]
    assert (found_mode, key.num_tokens, across.tolist()) == (mode, rows[0], rows)


@pytest.mark.usefixtures("nothing_pads")
def test_an_exchange_that_returns_no_counts_leaves_the_step_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream goes on with its first choice of a graph then, and vLLM asks for the counts."""
    exchange, rank = Exchange(None, NONE), Rank(Deployment(), 0, 2)
    monkeypatch.setattr(Rank, "_sync_batch_across_dp", exchange.of_counts)
    monkeypatch.setattr(Rank, "_sync_metadata_across_dp", exchange.of_metadata)
    found, key, across = rank.decide_step(3, FULL, Work(3, FULL).dispatch)
    assert (found, key.num_tokens, across) == (FULL, 4, None)
    assert not rank.drafter_follows_step, "whose rows this rank does not know"


@pytest.mark.parametrize("ranks", [2, 8])
def test_tokens_that_numpy_has_counted_are_told_whole(ranks: int) -> None:
    """As upstream counts them where ranks share prefills; with 8 ranks a rank's bits lie beyond the 64th."""
    (counted,) = {np.array([2, 3], dtype=np.int32).sum()}
    assert run_step(Deployment(), [Work(counted, NONE)] * ranks) == run_step(Deployment(), [Work(5, NONE)] * ranks)


@pytest.mark.parametrize(
    ("context", "graph", "most"), [(1, None, 8192 + 4), (1, 9000, 9000 + 4), (2, None, 8192 + 200 + 4)]
)
def test_a_step_may_have_more_rows_than_upstream_profiles(context: int, graph: int | None, most: int) -> None:
    """Its runner's ``max_num_tokens`` is less meanwhile; a request of one token is two rows where ranks share it."""
    rank = Rank(Deployment(), 0, 2)
    rank.max_num_tokens = 4096
    scheduler = SimpleNamespace(max_num_batched_tokens=8192, max_num_seqs=100)
    parallel = SimpleNamespace(tensor_parallel_size=4, prefill_context_parallel_size=context)
    rank.vllm_config = SimpleNamespace(scheduler_config=scheduler, parallel_config=parallel)
    rank.compilation_config.max_cudagraph_capture_size = graph
    assert rank._most_rows == most


@pytest.mark.parametrize("in_device_group", [False, True])
def test_a_device_group_that_is_made_anew_is_the_one_that_reduces(
    monkeypatch: pytest.MonkeyPatch, in_device_group: bool
) -> None:
    """Sleep destroys the groups of the device, and waking up makes others."""
    rank, wire = Rank(Deployment(), 0, 1), Wire(None, BitFields(1, 9000, whole_graphs=True), 0)
    rank.__dict__.update(_synchronizer=wire, _alone=False, _in_device_group=in_device_group)
    wire.process_group = "slept"
    monkeypatch.setattr(module, "get_dp_group", lambda: SimpleNamespace(device_group="awake"))
    rank._agree(LocalBatch(1, with_prefill=False, graph_usable=False))
    assert wire.process_group == ("awake" if in_device_group else "slept")


@dataclass(frozen=True)
class Drafts:
    """A drafter, and the step after which it drafts: ``largest`` of its ranks in tokens, of which MC2 takes 16."""

    skips: bool = False
    experts: bool = True
    gathers: bool = False
    pcp_size: int = 1
    extra: bool = False
    largest: int = 3

    def rank(self, patch: pytest.MonkeyPatch) -> Rank:
        """Upstream looks at the drafter's experts where it asks for a drafter, and skips for one without any."""
        draft_skips = self.skips or not self.experts
        patch.setattr(
            module,
            "should_skip_allreduce_across_dp_group",
            lambda _, is_draft_model=False: draft_skips if is_draft_model else self.skips,
        )
        patch.setattr(upstream, "row_group_sizes", lambda *_: {RowGroup.MLP: 2 * self.gathers})
        patch.setattr(module, "moe_comm_config", lambda _: choices(16))
        patch.setattr(release, "is_drafter_moe_model", lambda _: self.experts, raising=False)
        rank = Rank(Deployment(), 0, 2)
        rank.pcp_size, rank.drafter = self.pcp_size, SimpleNamespace(needs_extra_input_slots=self.extra)
        rank.step = StepPlan(StepMetadata((3, self.largest), False, False, False), 0)
        return rank


@pytest.mark.parametrize(
    ("drafts", "follows"),
    [
        (Drafts(), True),
        (Drafts(skips=True), False),
        (Drafts(skips=True, largest=17), True),
        (Drafts(skips=True, gathers=True), True),
        (Drafts(experts=False), False),
        (Drafts(skips=True, experts=False, largest=17), False),
        (Drafts(experts=False, gathers=True), True),
        (Drafts(pcp_size=2), False),
        (Drafts(extra=True), False),
        (Drafts(extra=True, gathers=True), False),
    ],
)
def test_a_drafter_follows_its_step_where_it_exchanges_rows_unless_it_needs_others(
    monkeypatch: pytest.MonkeyPatch, drafts: Drafts, follows: bool
) -> None:
    rank = drafts.rank(monkeypatch)
    assert rank.drafter_follows_step is follows
    assert rank.drafter_gathers is drafts.gathers


@pytest.mark.parametrize(
    ("drafts", "dp_size", "head", "exchanges"),
    [
        (Drafts(), 2, False, True),
        (Drafts(), 1, True, False),
        (Drafts(experts=False), 2, False, False),
        (Drafts(experts=False), 2, True, True),
        (Drafts(experts=False, gathers=True), 2, False, True),
    ],
)
def test_a_draft_exchanges_rows_in_its_layers_or_in_its_head(
    monkeypatch: pytest.MonkeyPatch, drafts: Drafts, dp_size: int, head: bool, exchanges: bool
) -> None:
    rank = drafts.rank(monkeypatch)
    rank.dp_size = dp_size
    monkeypatch.setattr(module, "lmhead_tp_enable", lambda: head)
    assert rank.draft_exchanges is exchanges


@pytest.mark.parametrize(
    ("drafts", "alone"),
    [
        (Drafts(), False),
        (Drafts(skips=True), False),
        (Drafts(experts=False), True),
        (Drafts(skips=True, experts=False, largest=17), True),
        (Drafts(experts=False, gathers=True), False),
    ],
)
def test_a_drafter_replays_after_a_step_without_a_graph_where_it_exchanges_nothing(
    monkeypatch: pytest.MonkeyPatch, drafts: Drafts, alone: bool
) -> None:
    rank = drafts.rank(monkeypatch)
    asked = "drafter_may_replay" if hasattr(type(rank), "drafter_may_replay") else "step_replays"
    assert getattr(rank, asked) is alone


def test_an_a2_gives_mc2_more_rows_where_it_sends_within_hosts_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked before upstream has read its configuration, too."""
    assert (mc2_capacity(600, "A2", 1), mc2_capacity(600, "A3", 1), mc2_capacity(8, "A2", 1)) == (256, 512, 8)
    monkeypatch.setenv("HCCL_INTRA_PCIE_ENABLE", "1")
    monkeypatch.setenv("HCCL_INTRA_ROCE_ENABLE", "0")
    assert (mc2_capacity(600, "A2", 1), mc2_capacity(600, "A2", 2)) == (512, 600)
