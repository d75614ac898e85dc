# SPDX-License-Identifier: Apache-2.0
"""The ACL graph of a step, as vLLM's runner names it; vLLM 0.10.0, which names none, has a module of its own."""

from __future__ import annotations

from typing import Any, Optional

from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor

from vllm_ascend.data_parallel.plan import StepPlan

GRAPH, NO_GRAPH = CUDAGraphMode.PIECEWISE, CUDAGraphMode.NONE


class StepGraph:
    """Mixin of the runner: what a forward pass is told of its graph."""

    step: StepPlan
    aclgraph_dispatcher: Any

    def _dispatch_graph(self, num_tokens: int) -> tuple[CUDAGraphMode, Optional[BatchDescriptor]]:
        """Graph mode and key for ``num_tokens`` rows: eager unless every rank replays."""
        if not self.step.use_graph:
            return NO_GRAPH, None
        return self.aclgraph_dispatcher.dispatch(  # type: ignore[no-any-return]
            BatchDescriptor(num_tokens=num_tokens, uniform_decode=False)
        )
