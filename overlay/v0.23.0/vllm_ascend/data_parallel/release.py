# SPDX-License-Identifier: Apache-2.0
"""What a step of vllm-ascend 0.23.0 decides otherwise than one of the other releases with the same runner."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable, Optional

import torch
from vllm.config import CUDAGraphMode
from vllm_ascend.utils import (
    embedding_tp_enable,
    enable_sp,
    is_drafter_moe_model,
    lmhead_tp_enable,
    oproj_tp_enable,
)

from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.metadata import StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.row_groups import spans_dp_ranks


class ReleaseStep:
    """Base of the runner's ``DataParallelStep``, which has what is only declared here."""

    vllm_config: Any
    dp_size: int
    pcp_size: int
    drafter: Any
    dynamic_eplb: bool
    eplb_heat_collection_stage: str

    step: StepPlan
    knows_rows: bool
    most_tokens: int
    _beyond_mc2: Callable[[StepMetadata], bool]
    _sync_metadata_across_dp: Callable[..., Any]

    @property
    def _alone(self) -> bool:
        raise NotImplementedError

    @property
    def steps_exchange(self) -> Callable[..., Any]:
        """By which upstream's steps, and drafters, exchange their counts."""
        return self._sync_metadata_across_dp

    def exchanged(
        self, exchange: Callable[..., Any], rows: int, graph: CUDAGraphMode
    ) -> tuple[Optional[torch.Tensor], CUDAGraphMode]:
        """Each rank's rows by ``exchange``, called as upstream does, and the graph that all replay."""
        gathers = oproj_tp_enable() or embedding_tp_enable()
        pads = graph != CUDAGraphMode.NONE or enable_sp(self.vllm_config) or gathers
        _, across, mode = exchange(num_tokens=rows, cudagraph_mode=graph, allow_dp_padding=pads)
        return across, mode

    @property
    def drafter_follows_step(self) -> bool:
        """Whether a drafter takes the rows of its step: it exchanges them, and needs no others than its step has."""
        needs_others = ("needs_extra_input_slots", "parallel_drafting")
        if self.pcp_size > 1 or not self.knows_rows or any(getattr(self.drafter, name, False) for name in needs_others):
            return False
        return self._drafter_exchanges and (not self._alone or self._beyond_mc2(self.step.metadata))

    @property
    def drafter_gathers(self) -> bool:
        """Whether layers of a drafter gather rows over DP ranks, and so need as many on each, in every draft."""
        only_keeps = self.vllm_config.speculative_config.method == "extract_hidden_states"
        return self.dp_size > 1 and self._gathers and not only_keeps

    @property
    def lmhead_is_parallel(self) -> bool:
        """Whether the lm head is split over DP ranks."""
        return bool(lmhead_tp_enable())

    @property
    def drafter_may_replay(self) -> bool:
        """Whether a drafter may replay a graph after the step in hand: where others join it, if they do too."""
        return self.dp_size == 1 or not self._drafter_exchanges or self.step.use_graph

    def most_rows(self, num_tokens: int) -> int:
        """Tokens of the largest rank in the step in hand, in which this one has ``num_tokens``: by its own rows a rank
        may be told that a graph holds more."""
        return num_tokens if self.dp_size == 1 else self.most_tokens

    @cached_property
    def _gathers(self) -> bool:
        """Whether layers outside of MoE exchange rows between DP ranks."""
        return spans_dp_ranks(upstream.row_group_sizes(self.vllm_config))

    @cached_property
    def _collects_by_rows(self) -> bool:
        """Whether a step counts for the load of experts by how many rows it has."""
        return self.dynamic_eplb and self.eplb_heat_collection_stage != "all"

    @cached_property
    def _drafter_exchanges(self) -> bool:
        """Whether the drafter's layers exchange rows between DP ranks: a drafter that only keeps states has none."""
        return is_drafter_moe_model(self.vllm_config) or self.drafter_gathers
