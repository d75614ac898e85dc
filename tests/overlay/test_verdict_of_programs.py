# SPDX-License-Identifier: Apache-2.0
"""The detector over random programs of collectives: what it calls a deadlock is one, and it calls each one so.

A rank at the end of its program has no request: where it could let others go on, nothing is proved.
Each rank runs a program that is nearly the others': a metadata all-reduce a step, and between them collectives of the
DP group and of tensor-parallel pairs. The ranks run in random turns, as far as their collectives let them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Beat, Collective, State, look_at
from vllm_ascend.data_parallel.verdict import Finding, judge

pytestmark = pytest.mark.shared

PROGRAMS = int(os.environ.get("PATCHSET_PROGRAMS", "1000"))
SIZE = 4
ALL, PAIRS = range(SIZE), (range(2), range(2, SIZE))


@dataclass(frozen=True)
class Op:
    """A collective of all ranks, or of each pair by itself."""

    name: str
    paired: bool = False

    def members(self, rank: int) -> range:
        return next(pair for pair in PAIRS if rank in pair) if self.paired else ALL

    def group(self, rank: int) -> str:
        return f"tp{self.members(rank)[0]}" if self.paired else "dp"


METADATA = Op("all_reduce of the metadata")
OTHERS = (Op("all_gather_into_tensor"), Op("broadcast"), Op("all_reduce", paired=True), Op("reduce", paired=True))


@dataclass
class Rank:
    """One rank: how far its program has come, and whether it is in the collective there or works before it."""

    number: int
    program: Sequence[Op]
    done: int = 0
    inside: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    """Of each group: collectives of one group meet in their order."""

    @property
    def op(self) -> Op | None:
        return self.program[self.done] if self.done < len(self.program) else None

    @property
    def works(self) -> bool:
        return self.op is not None and not self.inside

    @property
    def call(self) -> tuple[str, int, Op] | None:
        """The collective that it waits in."""
        if self.op is None or not self.inside:
            return None
        return self.op.group(self.number), self.calls[self.op.group(self.number)], self.op

    def go_on(self) -> None:
        assert self.op is not None
        self.calls[self.op.group(self.number)] += 1
        self.done, self.inside = self.done + 1, False

    def beat(self) -> Beat:
        step = sum(op == METADATA for op in self.program[: self.done + self.inside])
        if self.op is None or not self.inside:
            return Beat(self.number, 2, State.WORKS if self.op else State.IDLE, step, None, 60.0, "")
        members = self.op.members(self.number)
        collective = Collective(self.op.name, self.op.group(self.number), (members[0], len(members)), step)
        return Beat(self.number, 2, State.COLLECTIVE, step, "FORWARD", 60.0, "", collective)


def whole(ranks: Sequence[Rank]) -> list[Rank] | None:
    """Ranks of a collective in which all of its members are."""
    for rank in ranks:
        if rank.call is not None and rank.op is not None:
            members = [ranks[number] for number in rank.op.members(rank.number)]
            if all(other.call == rank.call for other in members):
                return members
    return None


def wakeable(ranks: Sequence[Rank]) -> bool:
    """Whether a collective has all of its members in it but for ranks at the end of their programs."""
    return any(
        all(ranks[number].call in (rank.call, None) for number in rank.op.members(rank.number))
        for rank in ranks
        if rank.op is not None
    )


def states(ranks: Sequence[Rank], turn: Callable[[int], int]) -> Iterator[None]:
    """Lets the ranks run, until none can move; after each turn the caller looks."""
    while True:
        yield
        moves: list[Callable[[], None]] = [
            lambda rank=rank: setattr(rank, "inside", True) for rank in ranks if rank.works
        ]
        met = whole(ranks)
        if met is not None:
            moves.append(lambda met=met: [rank.go_on() for rank in met] and None)
        if not moves:
            return
        moves[turn(len(moves))]()


programs = st.lists(st.lists(st.sampled_from(OTHERS), max_size=3), min_size=1, max_size=3).map(
    lambda steps: [op for step in steps for op in (METADATA, *step)]
)


@st.composite
def nearly_alike(draw: st.DrawFn) -> list[list[Op]]:
    """The program of each rank: the same, but for a collective more, fewer, or another on some."""
    common = draw(programs)
    found = []
    for _ in ALL:
        own = list(common)
        at = draw(st.integers(0, len(own) - 1))
        how = draw(st.sampled_from(["same", "same", "same", "more", "fewer", "another"]))
        other = draw(st.sampled_from((METADATA, *OTHERS)))
        own[at : at + (how in ("fewer", "another"))] = [other] * (how in ("more", "another"))
        found.append(own)
    return found


@settings(max_examples=PROGRAMS)
@given(nearly_alike(), st.randoms(use_true_random=False))
def test_a_deadlock_is_called_one_and_nothing_else(programs: list[list[Op]], random: object) -> None:
    ranks = [Rank(number, program) for number, program in enumerate(programs)]
    for _ in states(ranks, random.randrange):  # type: ignore[attr-defined]
        beats = {rank.number: rank.beat() for rank in ranks}
        finding = judge(Members(ALL), look_at(beats, 0.0, None), silence=4.0, still=6.0).finding
        moves = any(rank.works for rank in ranks) or whole(ranks) is not None
        over = all(rank.op is None for rank in ranks)
        if moves:
            assert not finding.proved, beats
        elif all(rank.op for rank in ranks):
            assert finding is Finding.DEADLOCK, beats
        elif not over:
            assert finding is Finding.IDLE or (finding is Finding.DEADLOCK and not wakeable(ranks)), beats
