# SPDX-License-Identifier: Apache-2.0
"""One rank: the real model runner of the tree on the import path, with nothing but what its decisions need."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm.config import CUDAGraphMode
from vllm.v1.cudagraph_dispatcher import CudagraphDispatcher
from vllm_ascend.ascend_config import get_ascend_config
from vllm_ascend.ascend_forward_context import get_mc2_tokens_capacity, set_mc2_mask, set_mc2_tokens_capacity
from vllm_ascend.platform import NPUPlatform
from vllm_ascend.worker.worker import NPUWorker

from simulation import world
from simulation.record import Record
from simulation.schedule import Deployment, Drafter, Loads, Mode, Row, Work
from simulation.since_0_18 import configuration, drafters
from simulation.since_0_18.configuration import MOST_ROWS
from simulation.since_0_18.model import Model
from simulation.since_0_18.releases import RUNNER, THIS, gathers
from vllm_ascend import utils


def nothing(*_: Any, **__: Any) -> None:
    """Stands for what decides nothing."""


class Buffer:
    """A buffer of the host and of the device; what it holds decides nothing, and all ranks share it."""

    def __init__(self) -> None:
        self.cpu = self.gpu = torch.zeros(MOST_ROWS, dtype=torch.int32)
        self.np = self.cpu.numpy()

    copy_to_gpu = staticmethod(nothing)


_buffer = Buffer()
_arange = np.arange(MOST_ROWS, dtype=np.int32)


class Rank(RUNNER.NPUModelRunner):  # type: ignore[misc,name-defined]
    """Upstream's runner, made without a model. A step runs its own methods, but for those below that are replaced.

    ``tokens`` is what this rank has to compute in the step in hand, ``decodes`` says whether these are decodes alone.
    """

    def __init__(self, deployment: Deployment, rank: int) -> None:
        self.deployment, self.record = deployment, Record()
        self.step_number, self.tokens, self.decodes, self.rejected = 0, 0, True, 0
        self.prompts: list[int] = []
        self.dp_rank, self.dp_size, self.device = rank, deployment.dp, torch.device("cpu")
        self.pcp_size = self.dcp_size = 1
        self.max_num_tokens, self.max_num_reqs = deployment.max_num_batched_tokens, deployment.max_num_seqs
        self.uniform_decode_query_len = self.decode_token_per_req = deployment.decode_tokens
        self.num_spec_tokens = deployment.drafts
        self.vllm_config = configuration.of(deployment, rank)
        for part in ("model", "scheduler", "parallel", "compilation", "speculative"):
            setattr(self, f"{part}_config", getattr(self.vllm_config, f"{part}_config"))
        self.ascend_config = get_ascend_config()
        set_mc2_tokens_capacity(self.vllm_config, self.max_num_reqs, self.uniform_decode_query_len)
        set_mc2_mask(self.vllm_config, self.device)
        if THIS.constant_embedding:
            utils.set_potential_max_tokens(self.vllm_config)
        self.skips: bool = utils.should_skip_allreduce_across_dp_group(self.vllm_config)
        mode = self.compilation_config.cudagraph_mode
        self.cudagraph_batch_sizes = list(deployment.graph_sizes) if mode is not CUDAGraphMode.NONE else []
        self.cudagraph_dispatcher = CudagraphDispatcher(self.vllm_config)
        self.cudagraph_dispatcher.initialize_cudagraph_keys(mode, deployment.decode_tokens)
        self._leave_out()
        self._balance(deployment.loads)
        self.input_batch = batch_of(())
        self.model = Model(self, "target", experts=True)
        self.drafter = drafters.of(self)
        self.use_eagle = deployment.drafter in (Drafter.EAGLE, Drafter.MTP)

    def _leave_out(self) -> None:
        """Values of what the simulated deployments have not."""
        self.lora_config = self.debugger = self.execute_model_state = self.kv_connector_output = None
        self.intermediate_tensors = self.prepare_inputs_event = self._draft_token_ids = None
        self.use_async_scheduling = self.cascade_attn_enabled = self.calculate_kv_scales = False
        self.is_multimodal_model = self.enable_prompt_embeds = self.uses_mrope = self.use_aux_hidden_state_outputs = (
            False
        )
        self.broadcast_pp_output = self.is_pooling_model = self.need_accepted_tokens = self._has_gdn = False
        self.enable_enpu = self.use_sparse = self.supports_mm_inputs = self._has_sinks = False
        self.use_compress = self.is_kv_producer = self.routed_experts_initialized = False
        self.uses_xdrope_dim = 0
        self.cache_config = SimpleNamespace(kv_sharing_fast_prefill=False, mamba_cache_mode="none")
        self.attn_groups: list[Any] = []
        self.attn_backend = self.update_stream = None
        self.query_start_loc = self.input_ids = self.query_pos = _buffer
        self.optimistic_seq_lens_cpu = _buffer.cpu
        self.kv_cache_config = SimpleNamespace(kv_cache_groups=[])
        self.seq_lens = self.positions = _buffer if THIS.buffered else _buffer.gpu
        self.arange_np = _arange

    def _balance(self, loads: Loads) -> None:
        """As its own __init__ has it, of the loads of experts."""
        self.dynamic_eplb = loads is not Loads.NONE
        if self.dynamic_eplb:
            from simulation.since_0_18.loads import Updator  # of releases that balance

            self.eplb_updator, self.eplb_heat_collection_stage = Updator(), loads.value
            self.eplb_pd_thresholds = self.max_num_reqs * self.uniform_decode_query_len
            self.eplb_heat_collection_status = True

    # What decides nothing is replaced.

    _update_states = finalize_kv_connector = _copy_draft_token_ids_to_cpu = staticmethod(nothing)
    _all_gather_hidden_states_and_aux = staticmethod(lambda hidden: hidden)

    def _prepare_inputs(self, scheduler_output: Any, num_scheduled_tokens: Any) -> tuple[torch.Tensor, None, int]:
        """The rows of the lm head, of which a parallel one has a constant number."""
        needed = sum(1 + drafts for drafts in scheduler_output.drafts)
        if self.deployment.lmhead_parallel:
            rows = self.max_num_reqs * self.uniform_decode_query_len
            if needed > rows:
                self.exceed(f"the lm head takes {rows} rows of {needed}")
            needed = rows
        return torch.zeros(needed, dtype=torch.int64), None, scheduler_output.total_num_scheduled_tokens

    def _build_attention_metadata(self, num_reqs: int, **_: Any) -> tuple[Any, Any]:
        return {}, SimpleNamespace(
            num_reqs=num_reqs,
            batch_size=lambda: num_reqs,
            query_start_loc=_buffer.gpu[: num_reqs + 1],
            query_start_loc_cpu=_buffer.cpu[: num_reqs + 1],
            seq_lens=_buffer.gpu[:num_reqs],
            _seq_lens_cpu=None,
            num_computed_tokens_cpu=None,
            slot_mapping=_buffer.gpu[:1],
            block_table_tensor=torch.zeros((num_reqs, 1)),
            num_prefills=int(not self.decodes),
        )

    def _preprocess(self, _: Any, num_input_tokens: int, *__: Any) -> tuple[Any, ...]:
        ids = _buffer.gpu[:num_input_tokens]
        return ids, None, ids, None, {}, None

    def _sample(self, *_: Any) -> Any:
        return SimpleNamespace(sampled_token_ids=None, logprobs_tensors=None)

    def _bookkeeping_sync(self, scheduler_output: Any, sampler_output: Any, logits: Any, hidden: Any, *_: Any) -> Any:
        for rows in self.prompts:  # _get_prompt_logprobs_dict, which runs the head for each prompt
            self.model.compute_logits(hidden[:rows])
        return None, [], {}, [], {}, []

    def propose_draft_token_ids(self, *arguments: Any) -> None:
        """Hands the step to upstream's drafter, as the end of upstream's method does."""
        common, batch_descriptor = arguments[4], arguments[-1]
        drafters.propose(self.drafter, self.tokens - self.rejected, common, batch_descriptor)

    def get_model(self) -> Model:
        return self.model

    # The body of a rank.

    @property
    def rounds_needed(self) -> int:
        """The most metadata collectives of a step: one, but none where MC2 alone meets, no graph, and no rank counts by
        the rows of the others."""
        one = self.deployment
        beyond = min(one.max_num_seqs * one.decode_tokens, one.max_num_batched_tokens) > get_mc2_tokens_capacity()
        counts = one.loads in (Loads.PREFILL, Loads.DECODE)
        return int(not self.skips or gathers(one) or counts or one.mode is not Mode.EAGER or beyond)

    def run(self, works: list[Work]) -> None:
        """Its steps, as vLLM's DP engine core takes them."""
        for number, work in enumerate(works, 1):
            self.step_number = number
            self.said_before = len(world.network().metadata[self.dp_rank])
            rows = tuple(row for row in work.rows(self.deployment) if not self._refuses(row))
            if rows:
                self._execute(rows, work.rejected)
            else:
                self._stand_by(work)
            if len(self.said()) > self.rounds_needed:
                self.record.rounds.append((number, len(self.said())))

    def _execute(self, rows: tuple[Row, ...], rejected: int) -> None:
        self.tokens = sum(row.scheduled for row in rows)
        self.decodes = all(row.scheduled == self.deployment.decode_tokens for row in rows)
        drafted = self.deployment.unpadded_drafter and any(row.drafts for row in rows)
        self.rejected = rejected if drafted else 0
        # Logprobs of a prompt's token come from the row before it.
        prompted = [min(row.scheduled, row.prompt - row.computed - 1) for row in rows if row.prompt]
        self.prompts = [rows for rows in prompted if rows > 0]
        self.input_batch = batch_of(rows)
        self.execute_model(scheduled(rows))
        self.sample_tokens(None)

    def _stand_by(self, work: Work) -> None:
        """An idle rank, or one whose requests are gone or wait: the engine then runs a dummy batch."""
        self.tokens, self.decodes = self.deployment.decode_tokens, True
        if work is not Work():
            self.execute_model(scheduled(()))
        self.execute_dummy_batch()

    def execute_dummy_batch(self) -> None:
        """What vllm-ascend's worker does for a rank that has nothing to run."""
        NPUWorker.execute_dummy_batch(SimpleNamespace(model_runner=self, log_memory_stats=nothing))

    @staticmethod
    def _refuses(row: Row) -> bool:
        """Whether the platform refuses a request of this kind, before a rank has seen it."""
        if not row.prompt:
            return False
        try:
            NPUPlatform.validate_request({"prompt_token_ids": range(row.prompt)}, SimpleNamespace(prompt_logprobs=1))
        except ValueError:
            return True
        return False

    def said(self) -> list[bool]:
        """The metadata all-reduces of this step so far."""
        return world.network().metadata[self.dp_rank][self.said_before :]

    def exceed(self, what: str) -> None:
        self.record.exceeded.append((self.step_number, what))


def batch_of(rows: tuple[Row, ...]) -> Any:
    """As much of vLLM's input batch as upstream reads of it."""
    return SimpleNamespace(
        num_reqs=len(rows),
        req_ids=[str(number) for number in range(len(rows))],
        num_computed_tokens_cpu=np.array([row.computed for row in rows], dtype=np.int32),
        num_computed_tokens_cpu_tensor=_buffer.cpu,
        lora_id_to_lora_request={},
        sampling_metadata=None,
        block_table=SimpleNamespace(block_tables=[], commit_block_table=nothing),
    )


def scheduled(rows: tuple[Row, ...]) -> Any:
    """What vLLM's scheduler says of the batch; ``drafts`` are those of each request."""
    return SimpleNamespace(
        total_num_scheduled_tokens=sum(row.scheduled for row in rows),
        num_scheduled_tokens={str(number): row.scheduled for number, row in enumerate(rows)},
        scheduled_spec_decode_tokens={str(number): [0] * row.drafts for number, row in enumerate(rows) if row.drafts},
        scheduled_encoder_inputs={},
        drafts=[row.drafts for row in rows],
    )


# They work on the device, on what is not simulated.
RUNNER.update_full_graph_params = RUNNER.update_cos_sin = nothing
