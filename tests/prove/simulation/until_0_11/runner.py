# SPDX-License-Identifier: Apache-2.0
"""One rank: the real model runner of the tree on the import path, with nothing but what its decisions need."""

from __future__ import annotations

from abc import abstractmethod
from inspect import signature
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm_ascend.ascend_forward_context import set_ascend_forward_context
from vllm_ascend.attention.attention_v1 import AscendAttentionState
from vllm_ascend.worker.worker_v1 import NPUWorker

from simulation import world
from simulation.record import Record
from simulation.schedule import Deployment, Drafter, KVRole, Layers, Mode, Row, Work
from simulation.until_0_11 import batch, graphs, wire
from simulation.until_0_11.model import Model, Rows
from simulation.until_0_11.releases import RUNNER, THIS, TORCHAIR_RUNNER

_MAX_ROWS = 16384
# Shared by all ranks: their contents decide nothing.
_ids = torch.zeros(_MAX_ROWS, dtype=torch.int32)
hidden_rows = torch.zeros((_MAX_ROWS, 1))
_CONTEXT = signature(set_ascend_forward_context).parameters
_DECODES = (AscendAttentionState.DecodeOnly, AscendAttentionState.SpecDecoding)
_one = torch.zeros(1)
_torchair_metadata = SimpleNamespace(
    decode=SimpleNamespace(block_table=_one, input_positions=_one, attn_mask=_one), slot_mapping=_one
)


class Rank:
    """Mixin of a tree's model runner: made without a model, given batches instead of scheduler outputs.

    A tree's own class says what a real step calls (`execute`) and what a generic layer makes of its context.
    """

    mc2_tokens_capacity: int
    torchair_graph_batch_sizes: list[int]
    _dummy_run: Any
    _build_attn_state: Any
    _check_dbo_is_valid: Any
    _process_reqs: Any

    def __init__(self, deployment: Deployment, rank: int) -> None:
        self.deployment, self.record = deployment, Record()
        self.step_number, self.compiled, self.decodes = 0, False, True
        self.dp_rank, self.dp_size, self.device = rank, deployment.dp, torch.device("cpu")
        self.max_num_tokens = deployment.max_num_batched_tokens
        self.max_num_reqs = deployment.max_num_seqs
        self.scheduler_config = SimpleNamespace(
            max_num_seqs=self.max_num_reqs, max_num_batched_tokens=self.max_num_tokens, async_scheduling=False
        )
        self.parallel_config = SimpleNamespace(
            data_parallel_size=deployment.dp,
            data_parallel_rank=rank,
            tensor_parallel_size=deployment.tp,
            pipeline_parallel_size=1,
            world_size_across_dp=deployment.dp * deployment.tp,
            enable_expert_parallel=deployment.expert_parallel,
        )
        self.is_kv_producer = deployment.kv_role in (KVRole.PRODUCER, KVRole.BOTH)
        self.is_kv_consumer = deployment.kv_role in (KVRole.CONSUMER, KVRole.BOTH)
        self.decode_token_per_req = self.uniform_decode_query_len = deployment.decode_tokens
        self.use_aclgraph = deployment.mode.acl_graphs
        self.aclgraph_batch_sizes = sorted(deployment.graph_sizes) if self.use_aclgraph else []
        self.vllm_config: Any = self._vllm_config()
        self.compilation_config = self.vllm_config.compilation_config
        self.aclgraph_dispatcher = graphs.dispatcher(self.vllm_config, deployment.decode_tokens)
        self.enable_shared_expert_dp = deployment.shared_expert_dp
        # This class comes before upstream's: 0.11.0's runner sets requests of a consumer aside.
        getattr(super(), "_may_pad_kv_consumer_num_seq", lambda: None)()
        self.mc2_tokens_capacity = self.mc2_capacity()
        self.reserved_mc2_mask = torch.zeros(self.mc2_tokens_capacity, dtype=torch.bool)
        self.seq_lens_np = np.zeros(self.max_num_reqs, dtype=np.int32)
        self.input_ids = self.positions = _ids
        self.lora_config = self.attn_mask = self.spec_attn_mask = None
        self.is_multimodal_model = self.uses_mrope = self.in_profile_run = False
        self.use_aux_hidden_state_outputs = False
        self.chunked_prefill_enabled = self.graphs_captured = True
        self.torchair_graph_enabled = deployment.mode is Mode.TORCHAIR
        self.actual_seq_lengths_q: list[int] = []
        self.kv_caches = [_one]
        self.slot_mapping, self.kv_cache_config = _ids, SimpleNamespace(kv_cache_groups=[])
        self.input_batch = SimpleNamespace(num_computed_tokens_cpu_tensor=_ids)
        self.update_stream = self.prefetch_stream = self.weight_prefetch_method = None
        self.dynamic_eplb = False
        self.attn_metadata_builder = SimpleNamespace(build_torchair_graph_dummy=lambda *_, **__: _torchair_metadata)
        self.model = Model(self, "target", deployment.layers)
        self.drafter = self._drafter()
        self.use_spec_decode = self.drafter is not None
        self.use_eagle = deployment.drafter is Drafter.EAGLE
        if deployment.mode is Mode.TORCHAIR:
            self.torchair_graph_batch_sizes = list(deployment.graph_sizes)
            self.settle_torchair_graph_sizes()
        if THIS.whole_step:
            batch.equip(self)

    def _vllm_config(self) -> Any:
        deployment = self.deployment
        eager = deployment.mode is Mode.EAGER
        sizes = self.aclgraph_batch_sizes
        compilation = SimpleNamespace(
            cudagraph_mode=graphs.mode(deployment.mode),
            level=3,
            splitting_ops_contain_attention=lambda: True,
            is_attention_compiled_piecewise=lambda: True,
            cudagraph_capture_sizes=sizes[::-1],  # the largest first, as vLLM has them
            static_forward_context={},
            pass_config=SimpleNamespace(enable_sequence_parallelism=deployment.sequence_parallel),
        )
        experts = {"num_experts": 256} if deployment.layers is not Layers.DENSE else {}
        self.model_config = SimpleNamespace(
            enforce_eager=eager,
            use_mla=deployment.layers is Layers.CUSTOM or deployment.drafter is Drafter.MTP,
            is_multimodal_model=False,
            hf_config=SimpleNamespace(model_type="simulated", to_dict=lambda: experts),
            hf_text_config=SimpleNamespace(to_dict=lambda: experts),
        )
        self.speculative_config = (
            SimpleNamespace(method=deployment.drafter.value, num_speculative_tokens=deployment.drafts)
            if deployment.drafter is not Drafter.NONE
            else None
        )
        return SimpleNamespace(
            parallel_config=self.parallel_config,
            model_config=self.model_config,
            scheduler_config=self.scheduler_config,
            compilation_config=compilation,
            speculative_config=self.speculative_config,
            kv_transfer_config=None,
            quant_config=None,
            # vLLM's table is a list over all sizes up to the largest (config/__init__.py); a larger one raises.
            pad_for_cudagraph=lambda rows: next(size for size in sizes if size >= rows),
        )

    def _drafter(self) -> Any:
        drafter: Any = None
        if self.deployment.drafter is Drafter.EAGLE:
            drafter = RUNNER.EagleProposer.__new__(RUNNER.EagleProposer)
            drafter.model = Model(self, "drafter", Layers.DENSE)
            drafter.num_speculative_tokens = self.deployment.drafts
        elif self.deployment.drafter is Drafter.MTP:
            drafter = RUNNER.MtpProposer.__new__(RUNNER.MtpProposer)
            drafter.num_speculative_tokens = self.deployment.drafts
            drafter.model = Model(self, "drafter", self.deployment.layers)
            drafter.torchair_graph_enabled = self.deployment.mode is Mode.TORCHAIR
            drafter._get_torchair_lazy_compiled_model = lambda rows: self._compiled(drafter.model, rows)
        if drafter is not None:
            drafter.name = self.deployment.drafter.value
            drafter.runner, drafter.vllm_config = self, self.vllm_config
            drafter.input_ids = drafter.positions = _ids
            drafter.hidden_states = hidden_rows
        return drafter

    # What a tree's own class adds.

    rounds_needed = 1
    """The most metadata collectives of a step."""

    @abstractmethod
    def mc2_capacity(self) -> int:
        """The number of tokens that the tree's `__init__` makes MC2's mask for."""

    def mc2_capacity_of_runner(self) -> int:
        """The same where the runner has a method for it (0.11.0); 0 where not."""
        find = getattr(self, "_init_mc2_tokens_capacity", None)
        if find is None:
            return 0
        find()
        return self.mc2_tokens_capacity

    def method_of_context(self, context: Any) -> str:
        """The method that the context names for generic layers; 0.10.0's are vLLM's own."""
        if not THIS.generic_layers_choose:
            return wire.NAIVE_MULTICAST
        kind = getattr(context, "moe_comm_type", None)
        return wire.of_generic(kind.name if kind is not None else context.moe_comm_method_name)

    def padded(self, tokens: int) -> int:
        """The rows of the graph for ``tokens``, where there is one."""
        if self.use_aclgraph and tokens <= self.aclgraph_batch_sizes[-1]:
            return int(self.vllm_config.pad_for_cudagraph(tokens))
        return self.splittable(tokens)

    def splittable(self, tokens: int) -> int:
        """As many rows for ``tokens`` as a compiled graph with sequence parallelism can split."""
        of = self.deployment.tp if self.use_aclgraph and self.deployment.sequence_parallel else 1
        return -(-tokens // of) * of

    def settle_torchair_graph_sizes(self) -> None:
        """What the release's `__init__` makes of the sizes that a user asked for."""
        settle = getattr(self, "update_torchair_graph_batch_sizes", None) or self.check_torchair_graph_batch_sizes
        settle()

    @abstractmethod
    def execute(self, rows: tuple[Row, ...], rejected: int) -> None:
        """What `execute_model` calls for a batch, in its order."""

    def process(self, rows: tuple[Row, ...]) -> int:
        """A real step by the runner's own `_process_reqs`, where a release has it; the tokens of the batch."""
        self.input_batch = batch.InputBatch(rows)
        scheduled = batch.scheduler_output(rows)
        self._process_reqs(scheduled)
        tokens: int = scheduled.total_num_scheduled_tokens
        if (computed := self.record.forwards[-1].rows) < tokens:
            self.exceed(f"{computed} rows for {tokens} tokens")
        return tokens

    @abstractmethod
    def generic_method(self, context: Any) -> str:
        """The method that the tree's generic layers use in a forward context."""

    # What both trees do.

    def run(self, works: list[Work]) -> None:
        """The body of the rank: its steps, as vLLM's DP engine core takes them."""
        for number, work in enumerate(works, 1):
            self.step_number = number
            self.said_before = len(world.network().metadata[self.dp_rank])
            rows = work.rows(self.deployment)
            self.decodes = all(row.scheduled == self.deployment.decode_tokens for row in rows)
            if rows:
                self.execute(rows, work.rejected if any(row.drafts for row in rows) else 0)
            else:
                self.execute_dummy_batch()
            if len(self.said()) > self.rounds_needed:
                self.record.rounds.append((number, len(self.said())))

    def said(self) -> list[bool]:
        """Of each metadata all-reduce of this step so far, whether it carries more than counts."""
        return world.network().metadata[self.dp_rank][self.said_before :]

    def execute_dummy_batch(self) -> None:
        """What vllm-ascend's worker does for a rank that has nothing to run."""
        NPUWorker.execute_dummy_batch(SimpleNamespace(model_runner=self))

    def describe(self, rows: tuple[Row, ...]) -> tuple[int, bool, bool]:
        """Tokens, with_prefill and enable_dbo of a batch, by the runner's own methods."""
        scheduled = np.array([row.scheduled for row in rows], dtype=np.int32)
        valid = np.array([row.scheduled - row.drafts for row in rows], dtype=np.int32)
        self.before_attention_state(rows, scheduled)
        state = self._build_attn_state(len(rows), scheduled, valid)
        self.after_attention_state(rows, scheduled)
        total = int(scheduled.sum())
        return total, state not in _DECODES, self._check_dbo_is_valid(scheduled.tolist(), state, total)

    def before_attention_state(self, rows: tuple[Row, ...], scheduled: Any) -> None:
        """Where the patched tree fills seq_lens_np."""

    def after_attention_state(self, rows: tuple[Row, ...], scheduled: Any) -> None:
        """Where the pristine tree fills seq_lens_np."""

    def fill_seq_lens(self, rows: tuple[Row, ...], scheduled: Any) -> None:
        self.seq_lens_np[: len(rows)] = scheduled + [row.computed for row in rows]

    def forward(self, model: Model, rows: int, tokens: int, **context: Any) -> None:
        """A forward of ``rows`` rows, ``tokens`` of them real, in upstream's forward context.

        What a release's context is not told of is left out of ``context``.
        """
        if tokens > rows:
            self.exceed(f"{rows} rows for {tokens} tokens")
        known = {name: value for name, value in context.items() if name in _CONTEXT}
        with set_ascend_forward_context(object(), self.vllm_config, num_tokens=rows, **known):
            if self.deployment.mode is Mode.TORCHAIR and not context["with_prefill"]:
                self._compiled(model, rows)(input_ids=_ids[:rows])
            else:
                model(input_ids=_ids[:rows])

    def gather_logits(self, needed: int, rows: int) -> None:
        """The lm head for ``needed`` rows of ``rows`` handed in, where it is parallel."""
        if needed > rows:
            self.exceed(f"the lm head takes {rows} rows of {needed}")
        self.model.compute_logits(Rows(rows), None)

    def exceed(self, what: str) -> None:
        self.record.exceeded.append((self.step_number, what))

    def _compiled(self, model: Model, rows: int) -> Any:
        """Stands for TorchAir's compiled model, with upstream's check."""
        if not 0 <= rows <= self.torchair_graph_batch_sizes[-1]:
            raise ValueError(f"Bad graph batch size:{rows}!")

        def replay(**arguments: Any) -> Rows:
            self.compiled = True
            try:
                return model(**arguments)
            finally:
                self.compiled = False

        return replay

    def _get_torchair_lazy_compiled_model(self, rows: int) -> Any:
        return self._compiled(self.model, rows)


def torchair_runner(deployment: Deployment) -> bool:
    """Whether the release runs it by TorchAir's runner, which need not mean TorchAir's graphs."""
    eager_on_torchair = deployment.shared_expert_dp and not THIS.custom_layers_in_eager
    return deployment.mode is Mode.TORCHAIR or eager_on_torchair


# They update the attention of a full decode graph, or convert weights: there are no layers here.
for name in ("update_attn_params", "update_mla_attn_params", "maybe_converting_weight_acl_format"):
    if hasattr(RUNNER, name):
        setattr(RUNNER, name, lambda *_: None)

# Upstream's runners: the common one, and TorchAir's.
BASES: dict[bool, type] = {False: RUNNER.NPUModelRunner, True: TORCHAIR_RUNNER.NPUTorchairModelRunner}
