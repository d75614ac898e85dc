# SPDX-License-Identifier: Apache-2.0
"""How many rows each rank computes in a step, and whether it replays a graph: a pure function of the metadata."""

from __future__ import annotations

from array import array
from typing import NamedTuple, Optional

import torch

from vllm_ascend.data_parallel.metadata import StepMetadata


class StepPlan(NamedTuple):
    """What one rank does in a step.

    ``num_input_tokens`` is this rank's entry of ``padded_tokens_per_rank``: its own count, or the uniform size where
    a graph or a communication method needs every rank to have the same. ``drafter_pads`` says that a drafter's
    attention takes rows beyond its tokens.
    """

    metadata: StepMetadata
    dp_rank: int
    uniform_size: Optional[int] = None
    drafter_pads: bool = True

    @property
    def with_prefill(self) -> bool:
        """Some rank has a prefill."""
        return self.metadata.with_prefill

    @property
    def use_graph(self) -> bool:
        """Every rank can replay its captured graph, so all do."""
        return self.metadata.graph_usable

    @property
    def padded_tokens_per_rank(self) -> tuple[int, ...]:
        """Rows that each rank computes."""
        tokens = self.metadata.tokens_per_rank
        return tokens if self.uniform_size is None else (self.uniform_size,) * len(tokens)

    @property
    def num_input_tokens(self) -> int:
        """Rows that this rank computes."""
        return self.padded_tokens_per_rank[self.dp_rank]

    @property
    def num_tokens_across_dp(self) -> Optional[torch.Tensor]:
        """CPU int32 tensor of shape ``[dp_size]`` for vLLM's DPMetadata; None where there is one rank.

        On the CPU, because both vLLM and the forward context read single elements of it, and each such read of a
        device tensor would block. Never None under DP: vLLM would answer that with a gloo all-reduce of its own.
        """
        return self.with_rows(self.num_input_tokens)

    def with_rows(self, num_tokens: int) -> Optional[torch.Tensor]:
        """The counts for a forward in which this rank computes ``num_tokens`` rows instead.

        For a dense drafter, whose forwards exchange nothing: vLLM only asks that a rank's own entry be its row count.
        """
        rows = list(self.padded_tokens_per_rank)
        rows[self.dp_rank] = num_tokens
        # A view of an array takes a quarter of the time of a tensor from a list.
        return torch.frombuffer(array("i", rows), dtype=torch.int32) if len(rows) > 1 else None

    def drafter_rows(self, num_tokens: int) -> tuple[int, Optional[torch.Tensor]]:
        """Rows that a drafter computes after this step, alone ``num_tokens``, and the counts for them.

        Under DP it computes as many as the step did, even where a graph for it alone would have more: rejections are
        known to one rank only, and the other ranks size their collectives by the step. Where its attention takes no
        rows but its own, so does a step of such rows.
        """
        follows = len(self.metadata.tokens_per_rank) > 1 and (self.drafter_pads or self.uniform_size is not None)
        rows = self.num_input_tokens if follows else num_tokens
        return rows, self.with_rows(rows)
