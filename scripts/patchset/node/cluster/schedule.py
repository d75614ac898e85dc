# SPDX-License-Identifier: Apache-2.0
"""The random batches of a smoke run, which every process can compute for every rank, and their expected results."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_TOKENS = 8192

# What a rank brings: tokens, and whether it has a prefill, wants DBO, could replay a graph.
Batch = tuple[int, bool, bool, bool]
# What all must get: tokens of each rank, any prefill, all DBO, all graph.
Agreed = tuple[tuple[int, ...], bool, bool, bool]


@dataclass(frozen=True)
class Schedule:
    """So many steps of so many ranks, drawn from a seed."""

    seed: int
    steps: int
    ranks: int

    def batches(self, step: int) -> list[Batch]:
        """What each rank brings to a step; a fifth of the ranks is idle, and runs a dummy batch of one token."""
        drawn = []
        for rank in range(self.ranks):
            draw = random.Random(f"{self.seed}/{step}/{rank}")  # noqa: S311 - to be drawn alike on every rank
            tokens = 1 if draw.random() < 0.2 else draw.randint(1, MAX_TOKENS)
            drawn.append((tokens, draw.random() < 0.3, draw.random() < 0.7, draw.random() < 0.9))
        return drawn

    def digest(self) -> str:
        """Of what must come of all steps."""
        return digest(agreed(self.batches(step)) for step in range(self.steps))


def agreed(batches: Sequence[Batch]) -> Agreed:
    """What a step comes to, computed directly.

    >>> agreed([(5, False, True, True), (1, True, True, False)])
    ((5, 1), True, True, False)
    """
    tokens, prefill, dbo, graph = zip(*batches)
    return tokens, any(prefill), all(dbo), all(graph)


def digest(steps: Iterable[Agreed]) -> str:
    """Hex sha256 of a sequence of steps."""
    text = hashlib.sha256()
    for step in steps:
        text.update(f"{step}\n".encode())
    return text.hexdigest()
