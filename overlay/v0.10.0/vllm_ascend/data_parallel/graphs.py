# SPDX-License-Identifier: Apache-2.0
"""The ACL graph of a step in vLLM 0.10.0, which finds it by the number of rows alone, unless a step says otherwise."""

from __future__ import annotations

from vllm_ascend.data_parallel.plan import StepPlan

GRAPH, NO_GRAPH = True, False


class StepGraph:
    """Mixin of the runner: what a forward pass is told of its graph."""

    step: StepPlan
    _graphs_are_of_decodes = False

    def _dispatch_graph(self, num_tokens: int) -> tuple[bool, None]:
        """Whether the graph of ``num_tokens`` rows is replayed, or captured: eager unless every rank does."""
        del num_tokens  # the graph's backend looks
        return (GRAPH if self.step.use_graph else NO_GRAPH), None
