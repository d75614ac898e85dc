# SPDX-License-Identifier: Apache-2.0
"""One rank: the real model runner of the tree on the import path, with nothing but what its decisions need."""

from __future__ import annotations

from abc import abstractmethod
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm.config import CUDAGraphMode
from vllm.forward_context import get_forward_context
from vllm.v1.cudagraph_dispatcher import CudagraphDispatcher
from vllm_ascend.ascend_forward_context import set_ascend_forward_context
from vllm_ascend.attention.attention_v1 import AscendAttentionState
from vllm_ascend.torchair.torchair_model_runner import NPUTorchairModelRunner
from vllm_ascend.worker.eagle_proposer_v1 import EagleProposer
from vllm_ascend.worker.model_runner_v1 import NPUModelRunner
from vllm_ascend.worker.mtp_proposer_v1 import MtpProposer

from simulation import wire, world
from simulation.network import Call
from simulation.record import Forward, Record
from simulation.schedule import Deployment, Drafter, KVRole, Layers, Mode, Row, Work

_MAX_ROWS = 16384
# Shared by all ranks: their contents decide nothing.
_ids = torch.zeros(_MAX_ROWS, dtype=torch.int32)
hidden_rows = torch.zeros((_MAX_ROWS, 1))
_DECODES = (AscendAttentionState.DecodeOnly, AscendAttentionState.SpecDecoding)
_one = torch.zeros(1)
_torchair_metadata = SimpleNamespace(
    decode=SimpleNamespace(block_table=_one, input_positions=_one, attn_mask=_one), slot_mapping=_one
)


class Rows:
    """Hidden states or logits of which only the number matters."""

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def shape(self) -> tuple[int]:
        return (self.count,)

    def __getitem__(self, index: Any) -> Rows:
        return Rows(len(range(self.count)[index] if isinstance(index, slice) else index))


class Rank:
    """Mixin of a tree's model runner: made without a model, given batches instead of scheduler outputs.

    A tree's own class says what a real step calls (`execute`) and what a generic layer makes of its context.
    """

    mc2_tokens_capacity: int
    torchair_graph_batch_sizes: list[int]
    _dummy_run: Any
    _build_attn_state: Any
    _check_dbo_is_valid: Any
    check_torchair_graph_batch_sizes: Any

    def __init__(self, deployment: Deployment, rank: int) -> None:
        self.deployment, self.record = deployment, Record()
        self.step_number, self.compiled = 0, False
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
            enable_expert_parallel=deployment.expert_parallel,
        )
        self.is_kv_producer = deployment.kv_role in (KVRole.PRODUCER, KVRole.BOTH)
        self.is_kv_consumer = deployment.kv_role in (KVRole.CONSUMER, KVRole.BOTH)
        self.decode_token_per_req = self.uniform_decode_query_len = deployment.decode_tokens
        self.use_aclgraph = deployment.mode is Mode.ACL_GRAPH
        self.aclgraph_batch_sizes = sorted(deployment.graph_sizes)
        self.vllm_config: Any = self._vllm_config()
        self.aclgraph_dispatcher = self.dispatcher_with_keys()
        self.mc2_tokens_capacity = self.mc2_capacity()
        self.reserved_mc2_mask = torch.zeros(self.mc2_tokens_capacity, dtype=torch.bool)
        self.seq_lens_np = np.zeros(self.max_num_reqs, dtype=np.int32)
        self.input_ids = self.positions = _ids
        self.lora_config = self.attn_mask = self.spec_attn_mask = None
        self.is_multimodal_model = self.uses_mrope = self.in_profile_run = False
        self.use_aux_hidden_state_outputs = False
        self.chunked_prefill_enabled = self.graphs_captured = True
        self.actual_seq_lengths_q: list[int] = []
        self.kv_caches = [_one]
        self.attn_metadata_builder = SimpleNamespace(build_torchair_graph_dummy=lambda _: _torchair_metadata)
        self.model = Model(self, "target", deployment.layers)
        self.drafter = self._drafter()
        self.use_spec_decode = self.drafter is not None
        self.use_eagle = deployment.drafter is Drafter.EAGLE
        if deployment.mode is Mode.TORCHAIR:
            self.torchair_graph_batch_sizes = list(deployment.graph_sizes)
            self.check_torchair_graph_batch_sizes()

    def _vllm_config(self) -> Any:
        deployment = self.deployment
        eager = deployment.mode is Mode.EAGER
        sizes = self.aclgraph_batch_sizes
        compilation = SimpleNamespace(
            cudagraph_mode=CUDAGraphMode.PIECEWISE if self.use_aclgraph else CUDAGraphMode.NONE,
            level=3,
            splitting_ops_contain_attention=lambda: True,
            cudagraph_capture_sizes=sizes,
            static_forward_context={},
        )
        self.model_config = SimpleNamespace(
            enforce_eager=eager, use_mla=deployment.layers is Layers.CUSTOM, hf_config=SimpleNamespace()
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
            # vLLM's table is a list over all sizes up to the largest (config/__init__.py); a larger one raises.
            pad_for_cudagraph=lambda rows: next(size for size in sizes if size >= rows),
        )

    def dispatcher_with_keys(self) -> CudagraphDispatcher:
        dispatcher = CudagraphDispatcher(self.vllm_config)
        dispatcher.initialize_cudagraph_keys(self.vllm_config.compilation_config.cudagraph_mode, 1)
        return dispatcher

    def _drafter(self) -> Any:
        drafter: Any = None
        if self.deployment.drafter is Drafter.EAGLE:
            drafter = EagleProposer.__new__(EagleProposer)
            drafter.model = Model(self, "drafter", Layers.DENSE)
            drafter.num_speculative_tokens = self.deployment.drafts
        elif self.deployment.drafter is Drafter.MTP:
            drafter = MtpProposer.__new__(MtpProposer)
            drafter.model = Model(self, "drafter", self.deployment.layers)
            drafter.torchair_graph_enabled = self.deployment.mode is Mode.TORCHAIR
            drafter._get_torchair_lazy_compiled_model = lambda rows: self._compiled(drafter.model, rows)
        if drafter is not None:
            drafter.runner, drafter.vllm_config = self, self.vllm_config
            drafter.input_ids = drafter.positions = _ids
            drafter.hidden_states = hidden_rows
        return drafter

    # What a tree's own class adds.

    @abstractmethod
    def mc2_capacity(self) -> int:
        """The number of tokens that the tree's `__init__` makes MC2's mask for."""

    @abstractmethod
    def execute(self, rows: tuple[Row, ...], rejected: int) -> None:
        """What `execute_model` calls for a batch, in its order."""

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
            if rows:
                self.execute(rows, work.rejected if any(row.drafts for row in rows) else 0)
            else:
                self.execute_dummy_batch()
            if len(self.said()) > 1:
                self.record.rounds.append((number, len(self.said())))

    def said(self) -> list[bool]:
        """Of each metadata all-reduce of this step so far, whether it carries more than counts."""
        return world.network().metadata[self.dp_rank][self.said_before :]

    def execute_dummy_batch(self) -> None:
        """What vllm-ascend's worker does for a rank that has nothing to run."""
        self._dummy_run(1)

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
        """A forward of ``rows`` rows, ``tokens`` of them real, in upstream's forward context."""
        if tokens > rows:
            self.exceed(f"{rows} rows for {tokens} tokens")
        with set_ascend_forward_context(object(), self.vllm_config, num_tokens=rows, **context):
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


class Model:
    """A model whose forward issues its layers' collectives, and computes nothing."""

    def __init__(self, rank: Rank, what: str, layers: Layers) -> None:
        self.rank, self.what, self.layers = rank, what, layers

    def __call__(self, **arguments: Any) -> Rows:
        rank, context = self.rank, get_forward_context()
        deployment, network = rank.deployment, world.network()
        rows = arguments["input_ids"].shape[0]
        graph = "TorchAir" if rank.compiled else ""
        if context.cudagraph_runtime_mode is not CUDAGraphMode.NONE and self.what == "target":
            graph = f"ACL graph of {context.batch_descriptor.num_tokens}"
            if context.batch_descriptor.num_tokens != rows:
                rank.exceed(f"a graph of {context.batch_descriptor.num_tokens} for {rows} rows")
        moe = self._method(context)
        pads = not deployment.shared_expert_dp
        # A dense drafter's forward joins nobody, and its graph is its own.
        if self.what == "target" or self.layers is not Layers.DENSE:
            rank.record.forwards.append(
                Forward(
                    step=rank.step_number,
                    what=self.what,
                    graph=graph,
                    moe=moe,
                    with_prefill=context.with_prefill,
                    rows=rows,
                    uniform=bool(graph) or deployment.mlp_parallel or (moe == wire.MC2 and not pads),
                    exchanged=any(rank.said()),
                )
            )
        self._check_buffers(rows, moe, context)
        if deployment.mlp_parallel:
            for call in wire.mlp(rows, deployment.dp):
                network.issue(call)
        if moe:
            for call in wire.layer(moe, context, rows, deployment.dp, pads):
                network.issue(call)
        return Rows(rows)

    def compute_logits(self, hidden: Rows | torch.Tensor, _: Any) -> Rows:
        """The lm head: gathers over its group where it is parallel."""
        deployment = self.rank.deployment
        rows = hidden.count if isinstance(hidden, Rows) else hidden.shape[0]
        if deployment.lmhead_parallel:
            world.network().issue(Call("lm head", "all_gather", (rows,)))
            world.network().issue(Call("lm head", "all_to_all", (rows * deployment.dp,)))
        return Rows(rows)

    def _method(self, context: Any) -> str:
        if self.layers is Layers.CUSTOM:
            return str(context.fused_moe_state.name)
        return self.rank.generic_method(context) if self.layers is Layers.GENERIC else ""

    def _check_buffers(self, rows: int, moe: str, context: Any) -> None:
        rank, deployment = self.rank, self.rank.deployment
        if rows > deployment.max_num_batched_tokens:
            rank.exceed(f"{rows} rows for buffers of {deployment.max_num_batched_tokens}")
        if moe == wire.MC2:
            taken = wire.MC2_ROWS.get(deployment.soc, 0)
            largest = -(-context.padded_num_tokens // deployment.tp)
            if largest > taken:
                rank.exceed(f"MC2's kernel takes {taken} rows, not {largest}")
            if context.mc2_mask.shape[0] != context.padded_num_tokens:
                rank.exceed(f"a mask of {context.mc2_mask.shape[0]} for {context.padded_num_tokens} rows of MC2")


# Upstream's runners: the common one, and TorchAir's.
BASES: dict[bool, type] = {False: NPUModelRunner, True: NPUTorchairModelRunner}
