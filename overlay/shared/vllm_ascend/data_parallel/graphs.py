# SPDX-License-Identifier: Apache-2.0
"""The ACL graph of a step, as vLLM's runner names it; vLLM 0.10.0, which names none, has a module of its own."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Optional

from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor

from vllm_ascend.data_parallel.plan import StepPlan

GRAPH, NO_GRAPH = CUDAGraphMode.PIECEWISE, CUDAGraphMode.NONE


class StepGraph:
    """Mixin of the runner: what a forward pass is told of its graph."""

    step: StepPlan
    vllm_config: Any
    aclgraph_dispatcher: Any

    def _dispatch_graph(
        self, num_tokens: int, uniform_decode: Optional[bool] = None
    ) -> tuple[CUDAGraphMode, Optional[BatchDescriptor]]:
        """Graph mode and key for ``num_tokens`` rows: eager unless every rank replays.

        Where there are graphs of uniform decodes alone, a step that replays is one; a drafter has none of them, and
        says so by ``uniform_decode`` False.
        """
        if not self.step.use_graph:
            return NO_GRAPH, None
        if uniform_decode is None:
            uniform_decode = self._graphs_are_of_decodes
        return self.aclgraph_dispatcher.dispatch(  # type: ignore[no-any-return]
            BatchDescriptor(num_tokens=num_tokens, uniform_decode=uniform_decode)
        )

    @cached_property
    def _graphs_are_of_decodes(self) -> bool:
        """Every graph is of uniform decodes, as in vLLM's FULL_DECODE_ONLY: a prefill of any size runs eager."""
        mode = self.vllm_config.compilation_config.cudagraph_mode
        return mode.mixed_mode() == NO_GRAPH  # type: ignore[no-any-return]
