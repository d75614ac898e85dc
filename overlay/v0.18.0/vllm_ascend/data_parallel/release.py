# SPDX-License-Identifier: Apache-2.0
"""What a step of vllm-ascend 0.18.0 decides otherwise than one of the other releases with the same runner."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable

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
    _beyond_mc2: Callable[[StepMetadata], bool]
    _skips: Callable[[bool], bool]
    _collects_by_rows = False  # a step counts for the load of experts whatever rows it has

    def _set_defaults(self) -> None:
        """Settings have the defaults that all sets have."""

    @property
    def drafter_follows_step(self) -> bool:
        """Whether a drafter takes the rows of its step: it exchanges them, and needs no others than its step has."""
        if self.pcp_size > 1 or getattr(self.drafter, "needs_extra_input_slots", False):
            return False
        return self._drafter_exchanges or self._beyond_mc2(self.step.metadata)

    @property
    def drafter_gathers(self) -> bool:
        """Whether layers of a drafter gather rows over DP ranks, and so need as many on each, in every draft."""
        return self.dp_size > 1 and self._gathers

    @property
    def step_replays(self) -> bool:
        """Whether the step in hand replays a graph on every rank, as far as this one has to ask."""
        return self.dp_size == 1 or self.step.use_graph

    @cached_property
    def _gathers(self) -> bool:
        """Whether layers outside of MoE exchange rows between DP ranks."""
        return spans_dp_ranks(upstream.row_group_sizes())

    @cached_property
    def _drafter_exchanges(self) -> bool:
        """Whether a rank's drafter depends on the other ranks' rows: one without experts, or with MC2 alone, does not.

        Layers that gather over DP ranks are the drafter's as well as the target's.
        """
        return self._gathers or not self._skips(True)
