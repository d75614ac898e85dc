# SPDX-License-Identifier: Apache-2.0
"""The batch sizes for which TorchAir compiles decode graphs."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Optional, Sequence


@dataclass(frozen=True)
class DecodeLimits:
    """What a decode batch may reach, all per DP rank.

    ``max_num_seqs`` requests of ``tokens_per_req`` tokens each and ``max_num_batched_tokens`` tokens are vLLM's
    limits and the sizes of the runner's buffers. ``pads_requests`` says that the release pads the requests of a graph
    outside of those buffers, so that a graph may hold more than ``max_num_seqs``. ``multiple_of`` is the
    tensor-parallel size where experts are parallel, since the rows of a graph are then split over it. ``mc2_capacity``
    is in tokens, None where MC2 is not used.
    """

    max_num_seqs: int
    tokens_per_req: int
    max_num_batched_tokens: int
    multiple_of: int = 1
    mc2_capacity: Optional[int] = None
    pads_requests: bool = False

    @property
    def unit(self) -> int:
        """Every graph size is a multiple of this."""
        return self.multiple_of * self.tokens_per_req // gcd(self.multiple_of, self.tokens_per_req)

    @property
    def largest_batch(self) -> int:
        """Tokens of the largest decode batch that the scheduler can make.

        At the limit it cuts the draft tokens of a request: the batch need not be whole requests.
        """
        return min(self.max_num_seqs * self.tokens_per_req, self.max_num_batched_tokens)


def decode_graph_sizes(requested: Sequence[int], limits: DecodeLimits) -> list[int]:
    """Ascending graph sizes in tokens, for ``requested`` sizes in requests (none requested: 1 and the maximum).

    The last one holds the largest decode batch, and none exceeds a buffer that it fills. Requested sizes beyond
    ``max_num_seqs`` are left out, as upstream does. Raises ``ValueError`` naming the option to change where no such
    size exists.
    """
    largest = _round_up(limits.largest_batch, limits.unit)
    if largest > limits.max_num_batched_tokens:
        raise ValueError(
            f"the largest TorchAir decode graph needs {largest} tokens (a multiple of {limits.unit}), more than "
            f"max_num_batched_tokens={limits.max_num_batched_tokens}; raise max_num_batched_tokens to {largest}"
        )
    if largest > limits.max_num_seqs * limits.tokens_per_req and not limits.pads_requests:
        fits = limits.max_num_seqs * limits.tokens_per_req // limits.unit * limits.unit // limits.tokens_per_req
        raise ValueError(
            f"the largest TorchAir decode graph needs {largest // limits.tokens_per_req} requests (a multiple of "
            f"{limits.unit} tokens), more than max_num_seqs={limits.max_num_seqs}; set max_num_seqs to "
            f"{largest // limits.tokens_per_req}" + (f" or {fits}" if fits else "")
        )
    if limits.mc2_capacity is not None and largest > limits.mc2_capacity:
        raise ValueError(
            f"the largest TorchAir decode graph has {largest} tokens, more than MC2's capacity of "
            f"{limits.mc2_capacity}; lower max_num_seqs to {limits.mc2_capacity // limits.tokens_per_req}"
        )
    wanted = [size for size in requested if 0 < size <= limits.max_num_seqs] or [1]
    sizes = {_round_up(size * limits.tokens_per_req, limits.unit) for size in wanted}
    return sorted({size for size in sizes if size < largest} | {largest})


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
