# SPDX-License-Identifier: Apache-2.0
"""The mixin of the model runner, driven by many ranks in one process: whatever they bring, they decide alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from vllm.model_executor.layers.fused_moe import FusedMoE

from vllm_ascend.data_parallel import forward_context, upstream
from vllm_ascend.data_parallel import runner as runner_module
from vllm_ascend.data_parallel.graphs import GRAPH, NO_GRAPH
from vllm_ascend.data_parallel.metadata import BitFields, LocalBatch, StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommChoice, MoECommConfig, select_moe_comm
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import Recorder
from vllm_ascend.data_parallel.row_groups import RowGroup
from vllm_ascend.data_parallel.runner import DataParallelStep, TorchairStep
from vllm_ascend.data_parallel.synchronizer import PendingStep

GRAPH_SIZES = [1, 2, 4, 8, 16]
MAX_NUM_TOKENS = 9000


def padded(num_tokens: int) -> int:
    return next(size for size in GRAPH_SIZES if size >= num_tokens)


@dataclass(frozen=True)
class Deployment:
    """Settings that all ranks share."""

    moe: MoECommConfig
    use_aclgraph: bool = True
    kv_role: str = ""
    lmhead_tp: bool = False
    mlp_tp: bool = False
    torchair: bool = False
    dense: bool = False
    decode_graphs_alone: bool = False

    def group_sizes(self, ranks: int) -> dict[RowGroup, int]:
        """What upstream splits over all of its DP ranks."""
        split = {RowGroup.LM_HEAD: self.lmhead_tp, RowGroup.MLP: self.mlp_tp}
        return {group: ranks for group, on in split.items() if on}


def moe_layer() -> torch.nn.Module:
    """A layer of vLLM's experts, without any."""
    layer = FusedMoE.__new__(FusedMoE)
    torch.nn.Module.__init__(layer)
    return layer


class Rank(DataParallelStep):
    """A runner with nothing but its data-parallel half; its batch is collected instead of reduced."""

    def __init__(self, deployment: Deployment, dp_rank: int, dp_size: int) -> None:
        self.dp_rank, self.dp_size = dp_rank, dp_size
        self.use_aclgraph = deployment.use_aclgraph and not deployment.torchair
        self.aclgraph_batch_sizes = GRAPH_SIZES
        self.aclgraph_dispatcher = SimpleNamespace(dispatch=lambda key: (GRAPH, key))
        parallel = SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1)
        text = SimpleNamespace(hf_text_config=SimpleNamespace(to_dict=dict))
        self.is_kv_producer = deployment.kv_role in ("kv_producer", "kv_both")
        self.is_kv_consumer = deployment.kv_role in ("kv_consumer", "kv_both")
        transfer = SimpleNamespace(is_kv_producer=self.is_kv_producer, is_kv_consumer=self.is_kv_consumer)
        self.vllm_config = SimpleNamespace(
            pad_for_cudagraph=padded,
            parallel_config=parallel,
            model_config=text,
            kv_transfer_config=transfer if deployment.kv_role else None,
        )
        self.decode_graphs_alone = deployment.decode_graphs_alone
        self.mc2_tokens_capacity = deployment.moe.mc2_capacity
        self.graphs_captured = True
        self.get_model = lambda: torch.nn.ModuleList([] if deployment.dense else [moe_layer()])
        self.batch: LocalBatch | None = None

    @property
    def _graphs_are_of_decodes(self) -> bool:
        return self.decode_graphs_alone

    def _issue_step(self, batch: LocalBatch) -> PendingStep:
        self.batch = batch
        self.recorder.issued(batch)
        return PendingStep(known=batch.alone(self.dp_size))

    def bring(self, work: Work) -> LocalBatch:
        """The batch that this rank tells the others about."""
        if work.idle:
            self._dummy_step(1, False, None, uniform_decode=True)
        else:
            self._issue_real_step(work.num_tokens, work.with_prefill, False, not work.with_prefill)
        assert self.batch is not None
        return self.batch


class TorchairRank(TorchairStep, Rank):
    """The same for TorchAir's runner, whose graphs here hold any decode batch."""

    def select_torchair_padded_batch_size(self, num_tokens: int) -> int:
        return -(-num_tokens // 64) * 64


@dataclass(frozen=True)
class Work:
    """What a scheduler gives one rank: a batch, or nothing."""

    num_tokens: int = 1
    with_prefill: bool = False
    idle: bool = False


def run_step(deployment: Deployment, schedule: list[Work], usual: type[Rank] = Rank) -> list[Rank]:
    """Let every rank bring its work, reduce, and let every rank decide."""
    kind = TorchairRank if deployment.torchair else usual
    with pytest.MonkeyPatch.context() as patch:
        moe = replace(deployment.moe, compiled_decode=deployment.torchair)
        patch.setattr(runner_module, "moe_comm_config", lambda *_: moe)
        patch.setattr(upstream, "lm_head_parallel", lambda: deployment.lmhead_tp)
        patch.setattr(upstream, "row_group_sizes", lambda _: deployment.group_sizes(len(schedule)))
        ranks = [kind(deployment, rank, len(schedule)) for rank in range(len(schedule))]
        fields = BitFields(len(ranks), MAX_NUM_TOKENS)
        packed = [fields.pack(rank.bring(work), rank.dp_rank) for rank, work in zip(ranks, schedule)]
        reduced = fields.unpack(sum(packed))
        for rank in ranks:
            assert rank.batch is not None
            known = reduced if rank._must_agree else rank.batch.alone(rank.dp_size)
            rank._await_step(PendingStep(known=known))
    return ranks


works = st.one_of(
    st.just(Work(idle=True)),
    st.builds(Work, num_tokens=st.integers(1, 20)),
    st.builds(Work, num_tokens=st.integers(1, 9000), with_prefill=st.just(True)),
)
schedules = st.lists(works, min_size=2, max_size=16)
deployments = st.builds(
    Deployment,
    moe=st.builds(
        MoECommConfig,
        soc=st.sampled_from(["A2", "A3", "UNDEFINED"]),
        ep_size=st.sampled_from([1, 2, 16]),
        mc2_capacity=st.sampled_from([8, 512]),
        layers_pad=st.booleans(),
        generic_mc2_min_ep_size=st.sampled_from([2, 16]),
        generic_multicasts_prefill=st.booleans(),
        sequence_parallel=st.booleans(),
    ),
    use_aclgraph=st.booleans(),
    kv_role=st.sampled_from(["", "kv_producer", "kv_consumer", "kv_both"]),
    lmhead_tp=st.booleans(),
    mlp_tp=st.booleans(),
    torchair=st.booleans(),
    dense=st.booleans(),
    decode_graphs_alone=st.booleans(),
)


def comm(deployment: Deployment, plan: StepPlan) -> MoECommChoice:
    """The MoE communication that the forward context selects for a plan."""
    return select_moe_comm(max(plan.padded_tokens_per_rank), plan.with_prefill, deployment.moe)


@given(deployments, schedules)
def test_no_schedule_makes_two_ranks_decide_differently(deployment: Deployment, schedule: list[Work]) -> None:
    ranks = run_step(deployment, schedule)
    assume(ranks[0]._must_agree)
    plans = [rank.step for rank in ranks]
    assert len({plan.padded_tokens_per_rank for plan in plans}) == 1
    assert len({plan.with_prefill for plan in plans}) == 1
    assert len({comm(deployment, plan) for plan in plans}) == 1
    assert len({rank._dispatch_graph(plan.uniform_size or 0) for rank, plan in zip(ranks, plans)}) == 1


@given(deployments, schedules)
def test_every_rank_has_rows_for_its_tokens(deployment: Deployment, schedule: list[Work]) -> None:
    for rank, work in zip(run_step(deployment, schedule), schedule):
        assert rank.step.num_input_tokens >= (1 if work.idle else work.num_tokens)


@given(deployments, schedules)
def test_a_rank_decides_alone_where_the_model_is_dense_and_no_group_spans_ranks(
    deployment: Deployment, schedule: list[Work]
) -> None:
    """What it decides is then what it would decide if it were the only rank."""
    alone = replace(deployment, dense=True, lmhead_tp=False, mlp_tp=False)
    for rank, work in zip(run_step(alone, schedule), schedule):
        assert not rank._must_agree
        (only,) = run_step(alone, [work])
        assert rank.step.num_input_tokens == only.step.num_input_tokens
        assert rank.step.with_prefill == only.step.with_prefill
        assert rank.step.use_graph == only.step.use_graph


@given(deployments, st.sampled_from(["experts", "lmhead_tp", "mlp_tp"]))
def test_one_reason_is_enough_to_agree(deployment: Deployment, reason: str) -> None:
    alone = replace(deployment, dense=True, lmhead_tp=False, mlp_tp=False)
    why = {"dense": False} if reason == "experts" else {reason: True}
    assert all(rank._must_agree for rank in run_step(replace(alone, **why), [Work(), Work()]))


@given(deployments, schedules)
def test_every_rank_has_as_many_rows_where_the_mlp_gathers_them(deployment: Deployment, schedule: list[Work]) -> None:
    ranks = run_step(replace(deployment, mlp_tp=True, torchair=False), schedule)
    assert len({rank.step.num_input_tokens for rank in ranks}) == 1


@given(deployments, schedules)
def test_ranks_are_padded_only_where_something_needs_it(deployment: Deployment, schedule: list[Work]) -> None:
    plan = run_step(deployment, schedule)[0].step
    if plan.uniform_size is None:
        assert plan.padded_tokens_per_rank == plan.metadata.tokens_per_rank
        return
    decode_graph = deployment.torchair and not plan.with_prefill
    lmhead = deployment.lmhead_tp and not plan.with_prefill
    choice = comm(deployment, plan)
    mc2 = not deployment.moe.layers_pad and MoEComm.MC2 in (choice.generic, choice.custom)
    assert plan.use_graph or decode_graph or lmhead or mc2 or deployment.mlp_tp or deployment.moe.sequence_parallel


def test_eager_ranks_keep_their_own_counts_while_one_prefills() -> None:
    eager = Deployment(MoECommConfig("A2", 1, 512), use_aclgraph=False)
    ranks = run_step(eager, [Work(8192, with_prefill=True), Work(4), Work(idle=True)])
    assert [rank.step.num_input_tokens for rank in ranks] == [8192, 4, 1]
    assert all(rank.step.with_prefill for rank in ranks)


def test_mc2_pads_in_its_layers_unless_they_do_not() -> None:
    for layers_pad, rows in ((True, [150, 4, 1]), (False, [150, 150, 150])):
        deployment = Deployment(MoECommConfig("A2", 16, 256, layers_pad=layers_pad), use_aclgraph=False)
        ranks = run_step(deployment, [Work(150), Work(4), Work(idle=True)])
        assert [rank.step.num_input_tokens for rank in ranks] == rows


def test_where_attention_scatters_a_rank_s_tokens_generic_layers_ask_for_no_padding() -> None:
    """There are none; and a prefill, or a release whose custom layers take another way, needs none."""
    eager = Deployment(MoECommConfig("A3", 16, 512, layers_pad=False, attention_pads=False), use_aclgraph=False)
    for with_prefill, rows in ((True, [9, 4, 1]), (False, [9, 9, 9])):
        ranks = run_step(eager, [Work(9, with_prefill=with_prefill), Work(4), Work(idle=True)])
        assert [rank.step.num_input_tokens for rank in ranks] == rows
        assert not ranks[0].step.drafter_pads


def test_a_rank_leaves_its_graph_when_another_s_batch_fits_none() -> None:
    graph = Deployment(MoECommConfig("A2", 1, 512))
    ranks = run_step(graph, [Work(1000, with_prefill=True), Work(3)])
    assert [rank.step.num_input_tokens for rank in ranks] == [1000, 3]
    assert [rank._dispatch_graph(3)[0] for rank in ranks] == [NO_GRAPH] * 2


def test_an_idle_rank_replays_the_graph_of_the_busy_ones() -> None:
    ranks = run_step(Deployment(MoECommConfig("A2", 1, 512)), [Work(3), Work(idle=True)])
    assert [rank.step.num_input_tokens for rank in ranks] == [4, 4]
    assert [rank._dispatch_graph(4)[0] for rank in ranks] == [GRAPH] * 2


@pytest.mark.parametrize(("kv_role", "with_prefill"), [("kv_producer", True), ("kv_both", False), ("", False)])
def test_only_a_pure_producer_calls_its_idle_step_a_prefill_and_all_ranks_know(
    kv_role: str, with_prefill: bool
) -> None:
    deployment = Deployment(MoECommConfig("A2", 1, 512), use_aclgraph=False, kv_role=kv_role)
    ranks = run_step(deployment, [Work(2), Work(idle=True)])
    assert [rank.step.with_prefill for rank in ranks] == [with_prefill] * 2


def test_warm_up_runs_eager_and_capture_runs_in_the_graph_it_captures() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "moe_comm_config", lambda *_: MoECommConfig("A2", 1, 512))
        patch.setattr(upstream, "row_group_sizes", lambda _: {})
        rank = Rank(Deployment(MoECommConfig("A2", 1, 512)), 0, 1)
        rank.graphs_captured = False
        assert not rank._dummy_step(2048, True, None).use_graph
        assert not rank._dummy_step(8, False, NO_GRAPH).use_graph
        captured = rank._dummy_step(8, False, GRAPH)
        assert captured.use_graph
        assert captured.num_input_tokens == 8
        assert not rank._dummy_step(8, False, None).use_graph


def test_where_graphs_are_of_decodes_alone_a_small_prefill_takes_every_rank_out_of_them() -> None:
    """Upstream's 0.11.0 asks each rank's own batch, so that an idle one replays beside a prefill that runs eager."""
    deployment = Deployment(MoECommConfig("A2", 1, 512), decode_graphs_alone=True)
    ranks = run_step(deployment, [Work(3, with_prefill=True), Work(idle=True)])
    assert [rank.step.num_input_tokens for rank in ranks] == [3, 1]
    assert [rank._dispatch_graph(3)[0] for rank in ranks] == [NO_GRAPH] * 2
    ranks = run_step(deployment, [Work(3), Work(idle=True)])
    assert [rank._dispatch_graph(4)[0] for rank in ranks] == [GRAPH] * 2


def test_torchair_s_runner_without_its_graphs_decides_like_the_other() -> None:
    """Upstream has it run in shared-expert DP, where it does not synchronise at all."""
    deployment = Deployment(MoECommConfig("A2", 2, 512))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "moe_comm_config", lambda *_: deployment.moe)
        patch.setattr(upstream, "row_group_sizes", lambda _: {})
        rank = TorchairRank(replace(deployment, torchair=True), 0, 2)
        assert rank._uniform_size(StepMetadata((3, 1), False, False, True)) == 4
        assert rank._uniform_size(StepMetadata((3, 1), False, False, False)) is None


def test_sequence_parallel_ranks_compute_the_same_rows() -> None:
    moe = MoECommConfig("A2", 2, 512, sequence_parallel=True)
    ranks = run_step(Deployment(moe, use_aclgraph=False), [Work(150, with_prefill=True), Work(4)])
    assert [rank.step.num_input_tokens for rank in ranks] == [150, 150]


def test_drafters_hand_a_parallel_head_as_many_rows_on_every_rank() -> None:
    """Their own first, zeros after them; an idle rank's are all zeros. A whole head takes each rank's own."""
    deployment = Deployment(MoECommConfig("A2", 1, 512), lmhead_tp=True)
    own = torch.ones((2, 3))
    for schedule, rows in (([Work(5, with_prefill=True), Work(idle=True)], 8), ([Work(3), Work(idle=True)], 4)):
        with pytest.MonkeyPatch.context() as patch:
            ranks = run_step(deployment, schedule)
            for rank in ranks:
                rank.max_num_reqs, rank.decode_token_per_req = 4, 2
            patch.setattr(upstream, "lm_head_parallel", lambda: False)
            assert ranks[0].pad_lmhead(own) is own
            patch.setattr(upstream, "lm_head_parallel", lambda: True)
            assert torch.equal(ranks[0].pad_lmhead(own), torch.cat([own, torch.zeros((rows - 2, 3))]))
            assert torch.equal(ranks[1].pad_lmhead(own[:0]), torch.zeros((rows, 3)))


@pytest.mark.parametrize("kind", [Rank, TorchairRank])
def test_static_facts_are_read_once_not_in_each_step(kind: type[Rank], monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(moe=MoECommConfig("A2", 16, 512, layers_pad=False))
    read: list[Any] = []

    def moe_comm_config(*told: Any) -> MoECommConfig:
        read.append(told)
        return deployment.moe

    monkeypatch.setattr(runner_module, "moe_comm_config", moe_comm_config)
    monkeypatch.setattr(upstream, "row_group_sizes", lambda _: {})
    rank = kind(deployment, 0, 2)
    sizes = [rank._uniform_size(StepMetadata((3, tokens), False, False, False)) for tokens in (1, 5, 9)]
    assert sizes == [3, 5, 9]
    assert read == [(rank.vllm_config, 512)]


@pytest.mark.parametrize("dp_size", [1, 3])
def test_a_runner_with_upstreams_methods_is_told_of_the_step_by_the_name_that_it_calls(dp_size: int) -> None:
    deployment = Deployment(MoECommConfig("A2", 16, 256), use_aclgraph=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "moe_comm_config", lambda *_: deployment.moe)
        patch.setattr(upstream, "row_group_sizes", lambda _: {})
        rank = Rank(deployment, 0, dp_size)
        rank.recorder = Recorder(4)
        vars(rank)["_given_up"], rank.decode_token_per_req = None, 1
        rows, across, with_prefill, enable_dbo = rank._sync_metadata_across_dp(8, True, False)
    assert (rows, with_prefill, enable_dbo) == (8, True, False)
    assert across is None if dp_size == 1 else across.tolist()[0] == 8
    assert rank.step.metadata.tokens_per_rank[0] == 8
    assert rank.recorder.entered is None and len(rank.recorder.steps()) == 1


class ForeignRank(Rank):
    """With a step of another program's, which takes each rank for the largest."""

    def execute_model(self) -> None:
        """Not called."""


@pytest.mark.parametrize(
    ("schedule", "rows"),
    [
        ([Work(5000, with_prefill=True), Work(8), Work(idle=True)], 5000),
        ([Work(9), Work(8), Work(idle=True)], 16),
        ([Work(idle=True), Work(idle=True)], 1),
    ],
)
def test_ranks_have_as_many_rows_where_a_part_of_the_step_is_another_programs(schedule: list[Work], rows: int) -> None:
    ranks = run_step(Deployment(MoECommConfig("A2", 16, 256)), schedule, ForeignRank)
    assert {rank.step.num_input_tokens for rank in ranks} == {rows}
    assert len({rank.step.use_graph for rank in ranks}) == 1


def test_such_a_step_too_has_its_own_rows_where_attention_takes_no_others() -> None:
    eager = Deployment(MoECommConfig("A2", 16, 256, attention_pads=False), use_aclgraph=False)
    ranks = run_step(eager, [Work(5000, with_prefill=True), Work(8)], ForeignRank)
    assert [rank.step.num_input_tokens for rank in ranks] == [5000, 8]


class Exchanging(Rank):
    """With another program's exchange, which asks upstream's in its turn or answers by itself."""

    asks, counts, told = False, True, 0

    def _issue_step(self, batch: LocalBatch) -> PendingStep:
        return DataParallelStep._issue_step(self, batch)

    def _sync_metadata_across_dp(self, num_tokens: int, with_prefill: bool, enable_dbo: bool) -> Any:
        self.told = num_tokens
        if self.asks:
            return super()._sync_metadata_across_dp(num_tokens, with_prefill, enable_dbo)
        return 16, torch.tensor([16, 16]) if self.counts else None, with_prefill, enable_dbo


@pytest.mark.parametrize(
    ("asks", "counts", "rows"), [(True, True, (4, 4)), (False, True, (16, 16)), (False, False, (4, 4))]
)
@pytest.mark.parametrize("within", [False, True])
def test_the_exchange_of_another_program_decides(asks: bool, counts: bool, rows: tuple[int, ...], within: bool) -> None:
    """Whether the step is recorded, as upstream's methods are, or another program's too. It is told the rows of the
    graph, and where it has none of the other ranks these tell each other theirs."""
    deployment = Deployment(MoECommConfig("A2", 16, 256))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "moe_comm_config", lambda *_: deployment.moe)
        patch.setattr(upstream, "row_group_sizes", lambda _: {})
        patch.setattr(upstream, "lm_head_parallel", lambda: False)
        rank = Exchanging(deployment, 0, 2)
        rank.asks, rank.counts, rank.decode_token_per_req, rank.recorder = asks, counts, 1, Recorder(4)
        known = LocalBatch(3, False, graph_usable=True).alone(2)
        vars(rank)["_synchronizer"] = SimpleNamespace(issue=lambda _: PendingStep(known=known))
        vars(rank)["_given_up"] = None
        assert not within or rank.recorder.begin("execute_model")
        step = rank._await_step(rank._issue_real_step(3, False, False, uniform_decode=True))
        if within:
            rank.recorder.end()
    assert step.padded_tokens_per_rank == rows and step.use_graph and rank.told == 4
    assert rank.step is step
    (recorded,) = rank.recorder.steps()
    assert recorded.alone and rank.recorder.entered is None


@pytest.mark.parametrize(
    ("dp_size", "with_prefill", "rows"), [(1, False, 64), (1, True, 8), (3, False, 64), (3, True, 8)]
)
def test_torchair_s_too_is_told_of_the_graph_that_a_decode_takes(dp_size: int, with_prefill: bool, rows: int) -> None:
    """With one DP rank as well, as upstream's own pads it there."""
    compiled = MoECommConfig("A2", 16, 256, compiled_decode=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "moe_comm_config", lambda *_: compiled)
        patch.setattr(upstream, "row_group_sizes", lambda _: {})
        rank = TorchairRank(Deployment(compiled, torchair=True), 0, dp_size)
        rank.recorder = Recorder(4)
        vars(rank)["_given_up"], rank.decode_token_per_req = None, 1
        found, across, told_prefill, _ = rank._sync_metadata_across_dp(8, with_prefill, False)
    assert (found, told_prefill) == (rows, with_prefill)
    assert across is None if dp_size == 1 else across.tolist()[0] == rows


@pytest.mark.skipif(upstream.GENERIC_LAYERS_CHOOSE, reason="only v0.10.0 has the name")
def test_the_name_that_code_for_this_release_calls_tells_of_the_step() -> None:
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    asked = SimpleNamespace(_sync_metadata_across_dp=lambda *told: told)
    assert NPUModelRunner._get_forward_metadata_across_dp_and_pad(asked, 8, True, False) == (8, True, False)


@pytest.mark.parametrize(
    ("role", "model", "seqs", "drafts", "refused"),
    [
        ("", "deepseek_v3", 4, 0, "set max_num_seqs to 8"),
        ("kv_consumer", "deepseek_v3", 4, 0, "set max_num_seqs to 8"),
        ("kv_producer", "deepseek_v3", 4, 0, ""),
        ("kv_consumer", "deepseek_v3", 256, 1, "lower max_num_seqs to 128"),
        ("kv_producer", "deepseek_v3", 256, 1, ""),
        ("", "PanguProMoE", 256, 1, ""),
    ],
)
def test_decode_graphs_are_refused_only_where_a_decode_or_mc2_would_run_them(
    role: str, model: str, seqs: int, drafts: int, refused: str
) -> None:
    """Four requests over eight devices, and two tokens each of as many as MC2 takes rows.

    A node that only prefills compiles none, and Pangu's layers take no MC2.
    """
    moe = MoECommConfig("A2", 16, 256, compiled_decode=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "moe_comm_config", lambda *_: moe)
        patch.setattr(upstream, "torchair_splits_rows", lambda _: True)
        patch.setattr(upstream, "TORCHAIR_PADS_REQUESTS", False)
        rank = TorchairRank(Deployment(moe, torchair=True, kv_role=role), 0, 1)
        del rank.is_kv_producer, rank.is_kv_consumer  # as on v0.10.0, whose runner reads them later
        rank.max_num_reqs, rank.decode_token_per_req = seqs, 1 + drafts
        rank.vllm_config.model_config.hf_config = SimpleNamespace(model_type=model)
        rank.vllm_config.parallel_config.enable_expert_parallel = True
        rank.vllm_config.parallel_config.tensor_parallel_size = 8 if seqs < 8 else 1
        rank.vllm_config.scheduler_config = SimpleNamespace(max_num_batched_tokens=8192, max_num_seqs=seqs)
        if refused:
            with pytest.raises(ValueError, match=refused):
                rank._decode_graph_sizes([])
        else:
            assert rank._decode_graph_sizes([])[-1] == max(8, seqs * (1 + drafts))
            assert rank.max_num_reqs == rank.vllm_config.scheduler_config.max_num_seqs == seqs


def test_upstreams_exchange_of_torchair_hides_what_is_put_in_the_place_of_the_other() -> None:
    class Foreign(Rank):
        def _sync_metadata_across_dp(self, *_: Any) -> Any:
            raise AssertionError

    class Compiled(TorchairStep, Foreign):
        """As NPUTorchairModelRunner has it."""

    deployment = Deployment(MoECommConfig("A2", 16, 256))
    assert Foreign(deployment, 0, 2)._exchange_is_foreign
    assert not Compiled(deployment, 0, 2)._exchange_is_foreign


@pytest.mark.parametrize(("capacity", "compiled", "rows"), [(512, False, 512), (256, False, 256), (256, True, 512)])
def test_mc2_takes_no_more_rows_than_a_program_has_lowered_its_capacity_to(
    monkeypatch: pytest.MonkeyPatch, capacity: int, compiled: bool, rows: int
) -> None:
    """AgentSDK's does, and its idle steps choose by that. TorchAir's decodes run MC2 at any size."""
    moe = MoECommConfig("A3", 16, 512, compiled_decode=compiled)
    monkeypatch.setattr(runner_module, "moe_comm_config", lambda *_: moe)
    rank = Rank(Deployment(moe), 0, 2)
    rank.reserved_mc2_mask, rank.mc2_tokens_capacity = torch.zeros(512), capacity
    assert rank.offered_mc2_mask.shape == (rows,)


def test_a_drafter_finds_a_step_where_another_programs_code_has_decided_none() -> None:
    rank = Rank(Deployment(MoECommConfig("A2", 16, 256)), 0, 2)
    rows = rank.step.with_rows(5)
    assert rank.step.with_prefill and rows is not None and rows.tolist()[0] == 5
    assert rank.step.drafter_rows(5)[0] == 5


@pytest.mark.parametrize(
    ("shared", "mla", "tp_size", "avoids", "pads"),
    [
        (False, True, 2, True, (True, True)),
        (True, False, 2, True, (False, True)),
        (True, True, 2, True, (True, False)),
        (True, True, 1, True, (True, False)),
        (True, True, 2, False, (False, False)),
        (True, True, 1, False, (False, True)),
    ],
)
def test_what_takes_padding_with_shared_expert_dp(
    monkeypatch: pytest.MonkeyPatch, shared: bool, mla: bool, tp_size: int, avoids: bool, pads: tuple[bool, bool]
) -> None:
    """The MoE layers, and the attention."""
    ascend_config = SimpleNamespace(
        enable_shared_expert_dp=shared, torchair_graph_config=SimpleNamespace(enabled=False)
    )
    monkeypatch.setattr(forward_context, "get_ascend_config", lambda: ascend_config)
    monkeypatch.setattr(forward_context, "get_ep_group", lambda: SimpleNamespace(world_size=2 * tp_size))
    monkeypatch.setattr(upstream, "SHARED_EXPERT_DP_AVOIDS_MC2", avoids)
    monkeypatch.setattr(upstream, "generic_layers", lambda _: {})
    config = SimpleNamespace(
        model_config=SimpleNamespace(hf_config=SimpleNamespace(), use_mla=mla),
        parallel_config=SimpleNamespace(tensor_parallel_size=tp_size, enable_expert_parallel=True),
    )
    made = forward_context.moe_comm_config(config)
    assert (made.layers_pad, made.attention_pads) == pads
