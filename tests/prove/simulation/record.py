# SPDX-License-Identifier: Apache-2.0
"""What a rank did: its forwards, and what it exceeded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Invariant(Enum):
    """What must hold in every step. The value is what a report calls its violation."""

    COLLECTIVES = "ranks issue different collectives"
    LIVENESS = "a rank waits for ever"
    MOE = "ranks choose different MoE communication"
    GRAPH = "one rank replays a graph, another does not"
    SIZE = "ranks compute different rows where all must be equal"
    PADDING = "a rank computes rows that nothing asks for"
    CAPACITY = "more rows, or others, than a buffer, graph, mask or kernel takes"
    CRASH = "a rank raises"
    ROUNDS = "more metadata collectives in a step than it needs"
    HOSTS = "metadata goes over the hosts, where it is not reliable"
    DETECTION = "the watchdog is wrong about a wait"


@dataclass(frozen=True)
class Forward:
    """One forward of the model or of a drafter on one rank.

    ``graph`` names what replays it ("" for eager), ``rows`` is what it computes, ``uniform`` says that all ranks must
    compute as many, ``exchanged`` that the ranks told each other more than their counts in this step before it.
    """

    step: int
    what: str
    graph: str
    moe: str
    with_prefill: bool
    rows: int
    uniform: bool
    exchanged: bool


@dataclass
class Record:
    """What one rank did, filled as it runs."""

    forwards: list[Forward] = field(default_factory=list)
    exceeded: list[tuple[int, str]] = field(default_factory=list)
    """Step, and what was too small for what."""
    padded: list[tuple[int, str]] = field(default_factory=list)
    """Step, and how many rows were computed for how many."""
    rounds: list[tuple[int, int]] = field(default_factory=list)
    """Step, and how many metadata collectives it took, where it needs fewer."""
