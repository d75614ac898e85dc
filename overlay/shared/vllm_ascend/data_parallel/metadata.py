# SPDX-License-Identifier: Apache-2.0
"""What the data-parallel ranks tell each other once a step, and its packed form.

Packed layout, int32, shape ``[dp_size + 3]``: one token count per rank, then three counters of ranks that object::

    [n_0, ..., n_{dp_size-1}, ranks with a prefill, ranks without DBO, ranks without a graph]

Every rank writes its own count and its own objections into zeros, so a SUM all-reduce both gathers the counts and
counts the objections: "any" is a counter above zero, "all" is a counter of objections equal to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

NUM_FLAGS = 3


def packed_size(dp_size: int) -> int:
    """Elements of the packed form for ``dp_size`` ranks."""
    return dp_size + NUM_FLAGS


@dataclass(frozen=True)
class LocalBatch:
    """What one rank brings to a step.

    ``num_tokens`` counts scheduled tokens, without any padding. ``graph_usable`` says that this rank could replay a
    captured ACL graph for a batch of that many tokens.
    """

    num_tokens: int
    with_prefill: bool
    enable_dbo: bool = False
    graph_usable: bool = False

    def pack(self, dp_rank: int, dp_size: int) -> list[int]:
        """This rank's summand: ``packed_size(dp_size)`` integers."""
        packed = [0] * packed_size(dp_size)
        packed[dp_rank] = self.num_tokens
        packed[dp_size:] = [
            int(self.with_prefill),
            int(not self.enable_dbo),
            int(not self.graph_usable),
        ]
        return packed

    def alone(self) -> StepMetadata:
        """The metadata of a step in which this rank is the only one."""
        return StepMetadata.unpack(self.pack(0, 1))


@dataclass(frozen=True)
class StepMetadata:
    """What every rank knows of a step after its one collective; equal on all ranks by construction."""

    tokens_per_rank: tuple[int, ...]
    with_prefill: bool
    enable_dbo: bool
    graph_usable: bool

    @classmethod
    def unpack(cls, packed: Sequence[int]) -> StepMetadata:
        """Read the summed form back. ``packed`` has ``packed_size(dp_size)`` integers."""
        dp_size = len(packed) - NUM_FLAGS
        prefills, without_dbo, without_graph = packed[dp_size:]
        return cls(
            tokens_per_rank=tuple(packed[:dp_size]),
            with_prefill=prefills > 0,
            enable_dbo=without_dbo == 0,
            graph_usable=without_graph == 0,
        )

    @property
    def max_num_tokens(self) -> int:
        """The largest unpadded count over the ranks."""
        return max(self.tokens_per_rank)
