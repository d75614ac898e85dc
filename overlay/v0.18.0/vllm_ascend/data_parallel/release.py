# SPDX-License-Identifier: Apache-2.0
"""What a step of vllm-ascend 0.18.0 decides otherwise than one of the other releases with the same runner."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable, Optional

import torch
from vllm.config import CUDAGraphMode
from vllm_ascend.utils import enable_sp, is_drafter_moe_model

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

    step: StepPlan
    knows_rows: bool
    _beyond_mc2: Callable[[StepMetadata], bool]
    _skips: Callable[[bool], bool]
    _sync_batch_across_dp: Callable[..., Any]
    _collects_by_rows = False  # a step counts for the load of experts whatever rows it has

    @property
    def steps_exchange(self) -> Callable[..., Any]:
        """By which upstream's steps exchange their counts; a drafter has another."""
        return self._sync_batch_across_dp

    def exchanged(
        self, exchange: Callable[..., Any], rows: int, graph: CUDAGraphMode
    ) -> tuple[Optional[torch.Tensor], CUDAGraphMode]:
        """Each rank's rows by ``exchange``, called as upstream does, and the graph that all replay."""
        pads = graph != CUDAGraphMode.NONE or enable_sp(self.vllm_config)
        _, across, mode = exchange(num_tokens_padded=rows, cudagraph_mode=graph.value, allow_dp_padding=pads)
        return across, CUDAGraphMode(mode)

    @property
    def drafter_follows_step(self) -> bool:
        """Whether a drafter takes the rows of its step: it exchanges them, and needs no others than its step has."""
        if self.pcp_size > 1 or not self.knows_rows or getattr(self.drafter, "needs_extra_input_slots", False):
            return False
        needs_rows = self._gathers or not self._skips(True) or self._beyond_mc2(self.step.metadata)
        return self._drafter_exchanges and needs_rows

    @property
    def drafter_gathers(self) -> bool:
        """Whether layers of a drafter gather rows over DP ranks, and so need as many on each, in every draft."""
        return self.dp_size > 1 and self._gathers

    @property
    def step_replays(self) -> bool:
        """Whether a drafter may replay a graph after the step in hand: where others join it, if they do too."""
        return self.dp_size == 1 or not self._drafter_exchanges or self.step.use_graph

    @cached_property
    def _gathers(self) -> bool:
        """Whether layers outside of MoE exchange rows between DP ranks."""
        return spans_dp_ranks(upstream.row_group_sizes())

    @cached_property
    def _drafter_exchanges(self) -> bool:
        """Whether the drafter's layers exchange rows between DP ranks, by its experts or in a group of the target."""
        return self._gathers or is_drafter_moe_model(self.vllm_config)
