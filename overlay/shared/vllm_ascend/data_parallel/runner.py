# SPDX-License-Identifier: Apache-2.0
"""The data-parallel half of upstream's model runner: what its hooks call."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable, Optional

import torch
import torch_npu
from vllm.logger import logger
from vllm_ascend.utils import is_310p

from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.foreign import steps_are_foreign
from vllm_ascend.data_parallel.foreign_exchange import ForeignExchange
from vllm_ascend.data_parallel.forward_context import moe_comm_config
from vllm_ascend.data_parallel.graph_sizes import DecodeLimits, decode_graph_sizes
from vllm_ascend.data_parallel.graphs import NO_GRAPH, StepGraph
from vllm_ascend.data_parallel.lockstep import engines_ask_each_step
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.metadata_group import metadata_group, settings_of
from vllm_ascend.data_parallel.moe_comm import GATHERS_ALONE, MoECommConfig
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.profiling import MoEFamilies, ProfilePass, profile_passes
from vllm_ascend.data_parallel.prompt_logits import PromptLogits, most_rounds
from vllm_ascend.data_parallel.recorder import NO_RECORDER, Recorder
from vllm_ascend.data_parallel.row_groups import RowGroup, must_agree, needs_equal_rows, spanning_groups
from vllm_ascend.data_parallel.settings import MetadataGroup
from vllm_ascend.data_parallel.start import join, recorded
from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer, PendingStep


class _StaticFacts:
    """What a runner knows of its deployment from its start on; TorchAir's steps ask for it as other steps do."""

    vllm_config: Any
    mc2_tokens_capacity: int

    @cached_property
    def _moe_comm_config(self) -> MoECommConfig:
        return moe_comm_config(self.vllm_config, self.mc2_tokens_capacity)


class DataParallelStep(_StaticFacts, StepGraph, PromptLogits, ForeignExchange):
    """Mixin of ``NPUModelRunner``: one synchronisation and one plan for every real, idle, profiling or capture step.

    ``step`` is the plan of the step in hand; drafters read it instead of synchronising again.
    """

    dp_rank: int
    dp_size: int
    device: torch.device
    use_aclgraph: bool
    aclgraph_batch_sizes: list[int]
    is_kv_producer: bool
    is_kv_consumer: bool
    max_num_tokens: int
    max_num_reqs: int
    decode_token_per_req: int
    _dummy_run: Any
    get_model: Any

    recorder: Recorder = NO_RECORDER
    graphs_captured: bool = False

    @cached_property
    def step(self) -> StepPlan:  # type: ignore[override]
        """Before the first: where another program's code runs a step without any decision of this set's.

        A drafter then computes what it needs.
        """
        return StepPlan(LocalBatch(1, with_prefill=True).alone(self.dp_size), self.dp_rank, drafter_pads=False)

    def _join_data_parallel(self) -> None:
        """Check the settings and the other ranks before weights are loaded; an error must not cost that time."""
        alone = not must_agree(self._row_groups, MoEFamilies(), self._text_config)  # as far as its config tells
        self.recorder = join(self.vllm_config, self._moe_comm_config, decides_alone=alone)

    @cached_property
    def _given_up(self) -> Optional[Callable[[], Optional[str]]]:
        """Why this rank's wait in the CPU group is to end; None where no one watches, or the group is the device's."""
        if self.recorder is NO_RECORDER or settings_of(self.vllm_config).metadata_group is not MetadataGroup.CPU:
            return None
        return lambda: self.recorder.given_up

    @cached_property
    def _synchronizer(self) -> MetadataSynchronizer:
        settings = settings_of(self.vllm_config)
        return MetadataSynchronizer(
            self.dp_rank,
            self.dp_size,
            self.max_num_tokens,
            metadata_group(self.vllm_config, settings),
            None if settings.metadata_group is MetadataGroup.CPU else self.device,
            most_rounds(self.max_num_tokens, self.max_num_reqs) if upstream.lm_head_parallel() else 0,
            is_310p(),
        )

    def _issue_step(self, batch: LocalBatch) -> PendingStep:
        """Tell the other ranks about this rank's batch, without waiting for theirs."""
        if self._exchange_is_foreign:
            return self._issue_foreign(batch, batch.num_tokens)
        self.recorder.issued(batch)
        return self._issue_own(batch)

    def _issue_own(self, batch: LocalBatch) -> PendingStep:
        if not self._must_agree:
            return PendingStep(known=batch.alone(self.dp_size))
        return self._synchronizer.issue(batch)

    def _await_step(self, pending: PendingStep) -> StepPlan:
        """Wait for the other ranks' batches and decide the step."""
        agree = self._must_agree and not self._exchange_is_foreign
        if agree:
            self.recorder.awaiting()
        self.step = self._plan(pending)
        self.recorder.decided(self.step, alone=not agree)
        return self.step

    def _plan(self, pending: PendingStep) -> StepPlan:
        metadata = pending.result(self._given_up)
        pads = self._moe_comm_config.attention_pads
        return StepPlan(metadata, self.dp_rank, self._uniform_size(metadata), drafter_pads=pads)

    def _issue_real_step(
        self,
        num_tokens: int,
        with_prefill: bool,
        enable_dbo: bool,
        uniform_decode: bool = False,
        prompt_rounds: int = 0,
    ) -> PendingStep:
        """Issue the step of a batch that the scheduler made.

        ``uniform_decode`` says that each request has as many tokens as a decode with all of its drafts;
        ``prompt_rounds`` is that of `LocalBatch`.
        """
        graph_usable = self._fits_graph(num_tokens, uniform_decode)
        batch = LocalBatch(num_tokens, with_prefill, enable_dbo, graph_usable, prompt_rounds)
        if self._exchange_is_foreign and self._fits_graph(num_tokens, uniform_decode=True):  # upstream pads before
            return self._issue_foreign(batch, self.vllm_config.pad_for_cudagraph(num_tokens))
        return self._issue_step(batch)

    @recorded
    def _sync_metadata_across_dp(
        self, num_tokens: int, with_prefill: bool, enable_dbo: bool
    ) -> tuple[int, Optional[torch.Tensor], bool, bool]:
        """Upstream's own entry, for runners that replace its methods: vLLM-Omni's, and UCM's sparse attention.

        Returns the rows that this rank computes, each rank's as a CPU int32 tensor of shape ``[dp_size]``, and what the
        ranks agreed on of a prefill and of DBO. One DP rank gets back what it gives.
        """
        decode = not with_prefill and num_tokens % self.decode_token_per_req == 0
        if self._exchange_is_foreign:  # which asks upstream's in its turn, within a step
            batch = LocalBatch(num_tokens, with_prefill, enable_dbo, self._fits_graph(num_tokens, decode))
            step = self.step = self._plan(self._issue_own(batch))
        else:
            step = self._await_step(self._issue_real_step(num_tokens, with_prefill, enable_dbo, decode))
        if self.dp_size == 1:
            return num_tokens, None, with_prefill, enable_dbo
        return step.num_input_tokens, step.num_tokens_across_dp, step.with_prefill, step.metadata.enable_dbo

    def _dummy_step(
        self, num_tokens: int, with_prefill: bool, graph_mode: Any, uniform_decode: bool = False
    ) -> StepPlan:
        """Decide an idle, profiling or capture step.

        ``graph_mode`` is the release's ``GRAPH`` or ``NO_GRAPH``; None is an idle or profiling step: it replays a graph
        where the other ranks do. A pure KV producer calls its idle steps prefills, as all of its real ones are; it must
        say so before the ranks agree.
        """
        if self.is_kv_producer and not self.is_kv_consumer:
            with_prefill = True
        if graph_mode is None:
            graph_usable = self.graphs_captured and self._fits_graph(num_tokens, uniform_decode)
        else:
            graph_usable = graph_mode != NO_GRAPH
        batch = LocalBatch(num_tokens, with_prefill, graph_usable=graph_usable)
        return self._await_step(self._issue_step(batch))

    @property
    def lmhead_rows(self) -> int:
        """Rows that every rank hands to a parallel lm head in this step, of the target and of a drafter alike.

        A decode has no more than its tokens. Of other steps one rank knows only its own requests, so the bound is
        every request with all of its draft tokens.
        """
        if self.step.with_prefill:
            return self.max_num_reqs * self.decode_token_per_req
        return self.step.num_input_tokens

    def pad_lmhead(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """A drafter's rows for a head that may be parallel: ``[n, width]``, zeros after them up to ``lmhead_rows``.

        The ranks gather each other's rows, so that all must have as many. Of the logits the first n are the drafter's.
        """
        if not upstream.lm_head_parallel():
            return hidden_states
        return torch.nn.functional.pad(hidden_states, (0, 0, 0, self.lmhead_rows - hidden_states.shape[0]))

    def _profile_forward(self) -> torch.Tensor:
        """Run the largest batch of every communication that serving can choose; hidden states of the largest of all."""
        config = self._moe_comm_config
        decode_tokens = self.max_num_reqs * self.decode_token_per_req
        largest, *others = profile_passes(self.max_num_tokens, decode_tokens, config, self._moe_families)
        hidden_states = self._profile(largest)
        for one in others:
            self._profile(one)
        return hidden_states

    def _profile(self, one: ProfilePass) -> torch.Tensor:
        hidden_states: torch.Tensor = self._dummy_run(one.num_tokens, with_prefill=one.with_prefill)
        peak = torch_npu.npu.memory_stats()["allocated_bytes.all.peak"]
        logger.info(
            "Profiled %d tokens with MoE communication %s (generic layers) and %s (custom layers): peak %.2f GiB",
            one.num_tokens,
            one.choice.generic.name,
            one.choice.custom.name,
            peak / 2**30,
        )
        return hidden_states

    @cached_property
    def _row_groups(self) -> frozenset[RowGroup]:
        """The groups that span DP ranks and exchange rows."""
        return spanning_groups(upstream.row_group_sizes(self.vllm_config), self.vllm_config.parallel_config)

    @cached_property
    def _moe_families(self) -> MoEFamilies:
        """Those of the model, once it has been loaded, and of its drafter."""
        return MoEFamilies.of(self.get_model(), getattr(getattr(self, "drafter", None), "model", None))

    @cached_property
    def _must_agree(self) -> bool:
        """Whether this rank's steps depend on the other ranks' batches, or nothing else keeps the engines in step."""
        if self.dp_size == 1:
            return False
        return not engines_ask_each_step() or must_agree(self._row_groups, self._moe_families, self._text_config)

    @property
    def _text_config(self) -> dict[str, Any]:
        return self.vllm_config.model_config.hf_text_config.to_dict()  # type: ignore[no-any-return]

    def _fits_graph(self, num_tokens: int, uniform_decode: bool) -> bool:
        if not self.use_aclgraph or num_tokens > self.aclgraph_batch_sizes[-1]:
            return False
        return uniform_decode or not self._graphs_are_of_decodes

    @cached_property
    def _steps_are_foreign(self) -> bool:
        """Whether another program's code has a part in a step, which takes each rank for the largest where attention
        takes more rows than its own."""
        return self.dp_size > 1 and self._moe_comm_config.attention_pads and steps_are_foreign(self)

    def _uniform_size(self, metadata: StepMetadata) -> Optional[int]:
        """Rows that every rank must compute in this step; None where each may keep its own count."""
        largest = metadata.max_num_tokens
        if metadata.graph_usable or (self._steps_are_foreign and self._fits_graph(largest, uniform_decode=True)):
            return self.vllm_config.pad_for_cudagraph(largest)  # type: ignore[no-any-return]
        if not self._must_agree:
            return None
        equal = self._steps_are_foreign or needs_equal_rows(metadata, self._row_groups, self._moe_comm_config)
        return largest if equal else None


class TorchairStep(_StaticFacts):
    """Mixin of ``NPUTorchairModelRunner``: decode steps run in graphs of fixed sizes, the others as they are.

    With upstream's shared-expert DP the runner has no graphs of its own, and decides like ``NPUModelRunner``.
    """

    max_num_reqs: int
    decode_token_per_req: int
    is_kv_consumer: bool
    step: StepPlan
    select_torchair_padded_batch_size: Any

    def _sync_metadata_across_dp(self, *told: Any, **named: Any) -> Any:
        """Upstream has one of TorchAir's own here, which hides what a program puts in the place of the other.

        It pads a decode to a graph where there is one DP rank, too.
        """
        rows, *agreed = DataParallelStep._sync_metadata_across_dp(self, *told, **named)  # type: ignore[arg-type]
        return self.step.num_input_tokens if self._moe_comm_config.compiled_decode else rows, *agreed

    def _uniform_size(self, metadata: StepMetadata) -> Optional[int]:
        if not self._moe_comm_config.compiled_decode:
            return super()._uniform_size(metadata)  # type: ignore[misc,no-any-return]
        if metadata.with_prefill:  # without a graph, and upstream's attention takes no padding there
            return None
        return self.select_torchair_padded_batch_size(metadata.max_num_tokens)  # type: ignore[no-any-return]

    def _decode_graph_sizes(self, requested: list[int]) -> list[int]:
        """Graph sizes in tokens for sizes requested in requests; refuses settings that none can satisfy.

        Where rounding makes the largest graph hold more requests than vLLM schedules, and the release pads for that,
        dummy batches take as many too, as upstream's do. A node that only prefills for others compiles none; v0.10.0
        asks for the sizes before its runner has read the role of its KV connector.
        """
        config, transfer = self._moe_comm_config, self.vllm_config.kv_transfer_config
        decodes = transfer is None or transfer.is_kv_consumer or not transfer.is_kv_producer
        by_mc2 = config.mc2_available and self.vllm_config.model_config.hf_config.model_type != GATHERS_ALONE
        parallel = self.vllm_config.parallel_config
        splits = parallel.enable_expert_parallel and upstream.torchair_splits_rows(config.soc)
        limits = DecodeLimits(
            max_num_seqs=self.max_num_reqs,
            tokens_per_req=self.decode_token_per_req,
            max_num_batched_tokens=self.vllm_config.scheduler_config.max_num_batched_tokens,
            multiple_of=parallel.tensor_parallel_size if splits else 1,
            mc2_capacity=self.mc2_tokens_capacity if by_mc2 and decodes else None,
            pads_requests=upstream.TORCHAIR_PADS_REQUESTS or not decodes,
        )
        sizes = decode_graph_sizes(requested, limits)
        requests = -(-sizes[-1] // self.decode_token_per_req)
        if upstream.TORCHAIR_PADS_REQUESTS and requests > self.max_num_reqs:
            self.max_num_reqs = requests
            # A KV consumer that drafts has set rows of its own aside, which vLLM must not schedule.
            if self.decode_token_per_req == 1 or not self.is_kv_consumer:
                self.vllm_config.scheduler_config.max_num_seqs = requests
        return sizes
