# SPDX-License-Identifier: Apache-2.0
"""The data-parallel half of upstream's model runner: what its hooks call.

Every step, real, idle, profiling or capturing, comes to one place upstream, which asks for a graph by size and is told
how many rows to compute and which graph to replay. Between the two lies the one decision of the ranks.
"""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import Any, Callable, Optional

import torch
from vllm.config import CUDAGraphMode
from vllm.distributed import get_dp_group
from vllm.forward_context import BatchDescriptor
from vllm_ascend.utils import (
    enable_sp,
    enable_sp_by_pass,
    is_310p,
    is_moe_model,
    lmhead_tp_enable,
    should_skip_allreduce_across_dp_group,
)

from vllm_ascend.data_parallel.foreign import is_foreign
from vllm_ascend.data_parallel.idle_rows import forget_requests
from vllm_ascend.data_parallel.metadata import GraphMode, LocalBatch, StepMetadata
from vllm_ascend.data_parallel.metadata_group import metadata_group, settings_of
from vllm_ascend.data_parallel.moe_comm import moe_comm_config
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import NO_RECORDER, Recorder
from vllm_ascend.data_parallel.release import ReleaseStep
from vllm_ascend.data_parallel.row_groups import expects_equal_rows
from vllm_ascend.data_parallel.settings import MetadataGroup
from vllm_ascend.data_parallel.start import join
from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

# By which upstream's steps exchange their counts; each release has its own.
Exchange = Callable[..., Any]
# Upstream's choice of a graph for so many rows, of these kinds alone: the kind, and the graph's key with its rows.
Dispatch = Callable[[int, set[CUDAGraphMode]], tuple[CUDAGraphMode, BatchDescriptor]]


class DataParallelStep(ReleaseStep):
    """Mixin of ``NPUModelRunner``: one synchronisation and one plan for every step.

    ``step`` is the plan of the step in hand; a drafter reads it instead of synchronising again.
    """

    input_batch: Any
    compilation_config: Any
    dp_rank: int
    device: torch.device
    max_num_tokens: int
    max_num_reqs: int
    uniform_decode_query_len: int

    recorder: Recorder = NO_RECORDER
    # Those of the largest rank in the step in hand; of this one where the ranks do not tell each other.
    most_tokens: int
    # Whether the plan has each rank's rows; vLLM asks for them in each forward where it has not.
    knows_rows = True
    _in_device_group = False

    def _join_data_parallel(self) -> None:
        """Check the settings and the other ranks before weights are loaded; an error must not cost that time."""
        self.recorder = join(self.vllm_config, moe_comm_config(self.vllm_config))

    def decide_step(
        self, num_tokens: int, graph: CUDAGraphMode, dispatch: Dispatch
    ) -> tuple[CUDAGraphMode, BatchDescriptor, Optional[torch.Tensor]]:
        """Decide a step of this rank's ``num_tokens``, which could replay ``graph``, with the other ranks.

        Returns the graph that all replay, its key with the rows that this rank computes, and each rank's rows: a CPU
        int32 tensor of shape ``[dp_size]``, None only where another program's exchange has none. Where ranks share
        prefills, upstream counts tokens in NumPy's integers.
        """
        num_tokens = int(num_tokens)
        mode = GraphMode(graph.value)
        batch = LocalBatch(
            num_tokens,
            with_prefill=False,
            graph_usable=mode is not GraphMode.NONE,
            whole_graph=mode is GraphMode.FULL,
        )
        self.recorder.issued(batch)
        self.most_tokens = num_tokens
        if foreign := self._foreign_exchange:
            self.step, rows, alone = *self._exchanged(foreign, batch, dispatch), True
        else:
            metadata = self._agree(batch) if self._must_agree else batch.alone(self.dp_size)
            self.step = StepPlan(metadata, self.dp_rank, self._uniform_size(metadata, dispatch))
            # By what each rank made of its own rows the ranks are not held against each other: it may differ.
            rows, alone = self.step.num_tokens_across_dp, not self._must_agree or self._takes_its_own(metadata)
        self.recorder.decided(self.step, alone=alone)
        key_graph, key = dispatch(self.step.num_input_tokens, self._modes(self.step.metadata))
        assert key.num_tokens == self.step.num_input_tokens, f"a graph of {key.num_tokens} rows for {self.step}"
        return key_graph, key, rows

    def _agree(self, batch: LocalBatch) -> StepMetadata:
        """What the ranks decide the step from."""
        synchronizer = self._synchronizer
        if self._in_device_group:  # which is another one after sleep and waking up
            synchronizer.process_group = get_dp_group().device_group
        pending = synchronizer.issue(batch)
        self.recorder.awaiting()
        metadata = pending.result(self._given_up)
        self.most_tokens = metadata.max_num_tokens
        own = self._takes_its_own(metadata)
        return self._of_each_alike(batch.num_tokens, metadata.graph_mode) if own else metadata

    @cached_property
    def _foreign_exchange(self) -> Optional[Exchange]:
        """Another program's method in the place of the one by which upstream's steps exchange their counts."""
        exchange = self.steps_exchange
        return exchange if is_foreign(exchange) else None

    def _exchanged(
        self, exchange: Exchange, batch: LocalBatch, dispatch: Dispatch
    ) -> tuple[StepPlan, Optional[torch.Tensor]]:
        """The plan that follows from another program's exchange, and each rank's rows as that returns them.

        It is told what upstream's would be: the rows of the graph that this rank could replay. Where it returns none,
        this rank goes on with those, and vLLM asks for the others'.
        """
        mode = CUDAGraphMode(batch.alone().graph_mode.value)
        rows = int(dispatch(batch.num_tokens, {mode})[1].num_tokens)
        across, agreed = self.exchanged(exchange, rows, mode)
        graph = GraphMode((mode if across is None else agreed).value)
        tokens = (rows,) * self.dp_size if across is None else tuple(across.tolist())
        self.most_tokens, self.knows_rows = max(tokens), across is not None
        known = StepMetadata(tokens, False, False, graph is not GraphMode.NONE, whole_graph=graph is GraphMode.FULL)
        return StepPlan(known, self.dp_rank), across

    def drafter_rows(self) -> tuple[int, torch.Tensor]:
        """Rows that a drafter computes after the step which exchanges them, and each rank's.

        As many as the step: what is rejected is known to one rank alone, and the others size their collectives by the
        step.
        """
        rows = self.step.num_tokens_across_dp
        assert rows is not None
        return self.step.num_input_tokens, rows

    @property
    def draft_exchanges(self) -> bool:
        """Whether a draft exchanges rows with the other DP ranks, in the drafter's layers or in a parallel lm head: so
        that each of them must draft as often.
        """
        return self.dp_size > 1 and (self._drafter_exchanges or bool(lmhead_tp_enable()))

    def forget_requests(self) -> None:
        """Before the metadata of a step that stands for no request: none of its rows belongs to one."""
        forget_requests(self.input_batch.block_table.block_tables)

    @cached_property
    def _alone(self) -> bool:
        """Whether ranks may compute different numbers of rows in one step, and need not know the others' counts.

        MC2 alone takes that. Layers that gather over DP ranks do not.
        """
        return self._skips(False) and not self._gathers

    def _skips(self, is_draft_model: bool) -> bool:
        """Whether upstream exchanges no counts for the experts of the model, or of the drafter: MC2 needs none."""
        skips: bool = should_skip_allreduce_across_dp_group(self.vllm_config, is_draft_model)
        return skips

    @cached_property
    def _must_agree(self) -> bool:
        """Whether a rank's step depends on the other ranks' batches: on their counts, on the graph alone, or only in
        what it counts for the load of experts."""
        return not self._alone or self._may_replay or self._decodes_beyond_mc2 or self._collects_by_rows

    @cached_property
    def _may_replay(self) -> bool:
        """Whether some step may replay a graph: then ranks that replay it must not meet ranks that run eager."""
        mode: CUDAGraphMode = self.compilation_config.cudagraph_mode
        return bool(is_moe_model(self.vllm_config)) and mode != CUDAGraphMode.NONE

    def _beyond_mc2(self, metadata: StepMetadata) -> bool:
        """Whether some rank of those that exchange rows by MC2 alone has more than MC2 takes, so that all need another
        way."""
        return self._alone and metadata.max_num_tokens > self._mc2_rows

    def _takes_its_own(self, metadata: StepMetadata) -> bool:
        """Whether each rank computes its own rows, whatever the others have: they agreed on the graph alone."""
        return self._alone and not self._beyond_mc2(metadata)

    @cached_property
    def _decodes_beyond_mc2(self) -> bool:
        """Whether decodes alone can be that many: without graphs upstream looks at no more than 512 tokens of them."""
        largest = min(self.max_num_tokens, self.max_num_reqs * self.uniform_decode_query_len)
        return self._alone and largest > self._mc2_rows

    @cached_property
    def _mc2_rows(self) -> float:
        """Most rows of a rank that are exchanged as one row is; without limit where all are."""
        config = moe_comm_config(self.vllm_config)
        return inf if config.within is config.beyond else config.mc2_capacity

    def _of_each_alike(self, num_tokens: int, mode: GraphMode) -> StepMetadata:
        """The step as this rank alone sees it: what upstream tells its layers where no counts are exchanged."""
        tokens = (num_tokens,) * self.dp_size
        return StepMetadata(tokens, False, False, mode is not GraphMode.NONE, whole_graph=mode is GraphMode.FULL)

    def _uniform_size(self, metadata: StepMetadata, dispatch: Dispatch) -> Optional[int]:
        """Rows that every rank must compute in this step; None where each may keep its own count."""
        largest = metadata.max_num_tokens
        if metadata.graph_usable:
            return int(dispatch(largest, self._modes(metadata))[1].num_tokens)
        return largest if self._equal_rows or enable_sp(self.vllm_config) or enable_sp_by_pass() else None

    @cached_property
    def _equal_rows(self) -> bool:
        """Whether layers need as many rows on every rank in a step without a graph, too."""
        return self._gathers or expects_equal_rows(self.vllm_config, moe_comm_config(self.vllm_config))

    @staticmethod
    def _modes(metadata: StepMetadata) -> set[CUDAGraphMode]:
        """The one kind of graph that all ranks replay, as upstream's dispatcher takes it."""
        return {CUDAGraphMode(metadata.graph_mode.value)}

    @cached_property
    def _given_up(self) -> Optional[Callable[[], Optional[str]]]:
        """Why this rank's wait in the CPU group is to end; None where no one watches, or the group is the device's."""
        if self.recorder is NO_RECORDER or settings_of(self.vllm_config).metadata_group is not MetadataGroup.CPU:
            return None
        return lambda: self.recorder.given_up

    @property
    def _most_rows(self) -> int:
        """Rows that a rank can have in a step.

        Not by ``max_num_tokens``, which upstream lowers while memory is profiled. Ranks that share a prefill take two
        rows at the least of each request (pcp_utils.py).
        """
        scheduler, parallel = self.vllm_config.scheduler_config, self.vllm_config.parallel_config
        shared = 2 * scheduler.max_num_seqs if parallel.prefill_context_parallel_size > 1 else 0
        largest_graph = self.compilation_config.max_cudagraph_capture_size or 0
        most = max(scheduler.max_num_batched_tokens + shared, largest_graph)
        return int(most + parallel.tensor_parallel_size)  # sequence parallelism rounds up to it

    @cached_property
    def _synchronizer(self) -> MetadataSynchronizer:
        settings = settings_of(self.vllm_config)
        on_hosts = settings.metadata_group is MetadataGroup.CPU
        self._in_device_group = not on_hosts
        return MetadataSynchronizer(
            self.dp_rank,
            self.dp_size,
            self._most_rows,
            metadata_group(self.vllm_config, settings),
            None if on_hosts else self.device,
            is_310p=is_310p(),
            whole_graphs=True,
        )
