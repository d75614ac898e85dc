# SPDX-License-Identifier: Apache-2.0
"""The collectives of N ranks in one process: each rank is a greenlet, and the n-th call of all ranks must be the same.

Every group here spans all DP ranks, so a rank's calls are one sequence. A call that the others answer with another
one is what gloo aborts on and HCCL hangs on; a rank that waits for a call that never comes hangs on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import greenlet
import torch


class Mismatch(Exception):  # noqa: N818
    """Two ranks issued different collectives in the same place of their sequences."""


class Hang(Exception):  # noqa: N818
    """Ranks wait for collectives that others never issue."""


@dataclass(frozen=True)
class Call:
    """A collective: its group, its name, and the shape that must be the same on every rank (None: may differ).

    ``metadata`` tells the one that begins a step from a layer's.
    """

    group: str
    name: str
    shape: tuple[int, ...] | None = None
    metadata: bool = False

    def __str__(self) -> str:
        return f"{self.name}[{self.group}]" + ("" if self.shape is None else "x".join(map(str, self.shape)))


@dataclass
class _Place:
    """One place in the ranks' sequences: what was issued there, by whom, and the tensors to be reduced.

    ``others`` are calls that do not fit, by rank.
    """

    call: Call
    ranks: list[int] = field(default_factory=list)
    others: dict[int, Call] = field(default_factory=dict)
    tensors: list[torch.Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """The handle of an asynchronous collective, as torch gives it."""

    network: Network
    place: _Place

    def is_completed(self) -> bool:
        return len(self.place.ranks) == self.network.size

    def is_success(self) -> bool:
        return self.is_completed()

    def wait(self, timeout: Any = None) -> bool:
        """Let the other ranks run until all have joined."""
        self.network.waits[self.network.rank] = self.place
        while not self.is_completed():
            self.network.pause()
        self.network.waits[self.network.rank] = None
        return True


class _Rank(greenlet.greenlet):
    number: int


class Network:
    """The ranks of one run, and the places at which they meet."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: list[_Place] = []
        self._issued = [0] * size
        self._worked = 0
        self.metadata: list[list[bool]] = [[] for _ in range(size)]
        """Of each metadata all-reduce that a rank has issued, whether it carries more than counts."""
        self.waits: list[_Place | None] = [None] * size
        self.after_turn: Callable[[], None] = lambda: None
        self._hub = greenlet.getcurrent()
        self._running: list[_Rank] = []

    @property
    def rank(self) -> int:
        """The rank that runs now; 0 outside of `run`."""
        current = greenlet.getcurrent()
        return current.number if isinstance(current, _Rank) else 0

    @property
    def calls(self) -> list[Call]:
        """What was issued, in order."""
        return [place.call for place in self._places]

    def issue(self, call: Call, tensor: torch.Tensor | None = None) -> Work:
        """Joins the rank's next place, without waiting. Tensors are summed in place once all ranks are there.

        Raises:
            Mismatch: an earlier rank issued something else there.
        """
        rank = self.rank
        number = self._issued[rank]
        self._issued[rank] += 1
        if number == len(self._places):
            self._places.append(_Place(call))
        place = self._places[number]
        if place.call != call:
            place.others[rank] = call
            raise Mismatch(f"rank {place.ranks[0]} issues {place.call}, rank {rank} {call}")
        place.ranks.append(rank)
        if tensor is not None:
            place.tensors.append(tensor)
            if len(place.ranks) == self.size:
                total = torch.stack(place.tensors).sum(0)
                for one in place.tensors:
                    one.copy_(total)
        return Work(self, place)

    def pause(self) -> None:
        """Lets other ranks run."""
        self._hub.switch()

    def work(self) -> None:
        """Takes a turn for something else than a collective."""
        self._worked += 1
        self.pause()

    def run(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Runs one body per rank, in turns, until all have ended. Whoever runs ranks closes the network.

        Raises:
            Hang: no rank can go on, or one ended while others wait for it.
        """
        self._hub = greenlet.getcurrent()
        for number, body in enumerate(bodies):
            one = _Rank(body)
            one.number = number
            self._running.append(one)
        before: tuple[int, ...] | None = None
        while self._running:
            for one in self._running:
                one.switch()
            self._running = self._alive()
            self.after_turn()
            now = self.progress
            if self._running and now == before:
                raise Hang(self._waiting([one.number for one in self._running]))
            before = now
        behind = [place for place in self._places if len(place.ranks) < self.size]
        if behind:
            missing = sorted(set(range(self.size)) - set(behind[0].ranks))
            raise Hang(f"rank {behind[0].ranks[0]} issues {behind[0].call}, which rank {missing[0]} never does")

    @property
    def progress(self) -> tuple[int, ...]:
        """Equal as long as no rank moves."""
        return (len(self._running), self._worked, *self._issued)

    @property
    def ended(self) -> set[int]:
        """Ranks that have done all of their work."""
        return set(range(self.size)) - {one.number for one in self._running}

    def stop(self) -> list[tuple[Call | None, int]]:
        """After a Mismatch or Hang, lets every rank go as far as it can. What each is in: its call at the first place
        that is not the same on all, None where it has ended before, and how many steps it has begun until there."""
        before = None
        while before != self.progress:
            before = self.progress
            for one in self._alive():
                with suppress(Exception):
                    one.switch()
            self._running = self._alive()
        number, place = next((n, p) for n, p in enumerate(self._places) if len(p.ranks) < self.size)
        steps = sum(one.call.metadata for one in self._places[:number])
        calls = [place.call if rank in place.ranks else place.others.get(rank) for rank in range(self.size)]
        return [(call, steps + (call is not None and call.metadata)) for call in calls]

    def close(self) -> None:
        """End the ranks that still run."""
        for one in self._alive():
            one.throw()

    def _alive(self) -> list[_Rank]:
        return [one for one in self._running if not one.dead]

    def _waiting(self, ranks: Sequence[int]) -> str:
        number = min(self._issued[rank] for rank in ranks)
        place = self._places[number - 1]
        missing = sorted(set(range(self.size)) - set(place.ranks))
        return f"rank {ranks[0]} waits in {place.call} for rank {missing[0] if missing else '?'}"
