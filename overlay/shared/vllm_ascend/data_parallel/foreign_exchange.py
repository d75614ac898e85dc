# SPDX-License-Identifier: Apache-2.0
"""Steps of which another program's method decides: one in the place of upstream's entry, as AgentSDK has it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable

from vllm_ascend.data_parallel.foreign import is_foreign
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.recorder import Recorder
from vllm_ascend.data_parallel.synchronizer import PendingStep


class ForeignExchange:
    """Mixin of ``NPUModelRunner``, which has what is only declared here."""

    dp_size: int
    recorder: Recorder
    mc2_tokens_capacity: int
    reserved_mc2_mask: Any
    _moe_comm_config: Any
    _given_up: Any
    _fits_graph: Callable[..., bool]
    _issue_own: Callable[[LocalBatch], PendingStep]
    _sync_metadata_across_dp: Any

    @cached_property
    def _exchange_is_foreign(self) -> bool:
        """Whether another program's method is in the place of upstream's entry, and so decides the steps."""
        return self.dp_size > 1 and is_foreign(self._sync_metadata_across_dp)

    def _issue_foreign(self, batch: LocalBatch, rows: int) -> PendingStep:
        """Have the other program decide the step of ``batch``, told of as many rows as upstream would tell it."""
        known = self._exchanged(batch, rows)
        self.recorder.issued(batch)  # afterwards: upstream's own, if that is asked, may be a step by itself
        return PendingStep(known=known)

    def _exchanged(self, batch: LocalBatch, rows: int) -> StepMetadata:
        """What the other program's exchange says.

        It names rows alone, as upstream's does: a graph of that many is replayed where no rank has a prefill. Without
        each rank's, which vLLM would then ask for in the forward pass, the ranks tell each other here.
        """
        own, across, with_prefill, dbo = self._sync_metadata_across_dp(rows, batch.with_prefill, batch.enable_dbo)
        if across is None:
            told = batch._replace(num_tokens=own, with_prefill=with_prefill, enable_dbo=dbo)
            return self._issue_own(told).result(self._given_up)
        of_all = tuple(across.tolist())
        graph_usable = batch.graph_usable and self._fits_graph(max(of_all), uniform_decode=not with_prefill)
        return StepMetadata(of_all, with_prefill, dbo, graph_usable, batch.prompt_rounds)

    @property
    def offered_mc2_mask(self) -> Any:
        """The mask whose length bounds MC2: no longer than a program may have lowered the capacity to.

        But whole for TorchAir, whose compiled decodes run MC2 at any size.
        """
        mask, capacity = self.reserved_mc2_mask, self.mc2_tokens_capacity
        return mask if self._moe_comm_config.compiled_decode or mask.shape[0] == capacity else mask[:capacity]
