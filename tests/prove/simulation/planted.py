# SPDX-License-Identifier: Apache-2.0
"""A divergence planted in what ranks issued: what one of them then waits in, the others never join.

The ranks issue again what they issued in a schedule, one of them with one difference, and wait in each collective. So a
schedule that ran through also says whether the watchdog would have told a deadlock in it from a wait that can end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from random import Random
from typing import Any, Protocol

from simulation.network import Call, Hang, Mismatch, Network


class Difference(Enum):
    """What one rank does otherwise. LEAVES has no more requests; LATE comes when all others wait for it."""

    LEFT_OUT = "leaves a collective out"
    TWICE = "issues one twice"
    OTHER = "issues another one"
    SIZE = "issues one of another size"
    GROUP = "issues one on another group"
    LEAVES = "leaves"
    LATE = "comes late"


@dataclass(frozen=True)
class Divergence:
    """``rank`` differs from the others at the collective of this number."""

    difference: Difference
    rank: int
    number: int

    def __str__(self) -> str:
        return f"rank {self.rank} {self.difference.value} (collective {self.number})"

    def of(self, calls: Sequence[Call]) -> Iterator[Call | None]:
        """What ``rank`` issues in place of ``calls``; None is a turn in which it does something else."""
        at, before, after = calls[self.number], calls[: self.number], calls[self.number + 1 :]
        yield from before
        if self.difference is Difference.LEAVES:
            return
        if self.difference is Difference.TWICE:
            yield from (at, at)
        elif self.difference is Difference.OTHER:
            yield Call(at.group, "barrier", at.shape)
        elif self.difference is Difference.SIZE:
            yield dataclasses.replace(at, shape=tuple(one + 1 for one in at.shape or ()))
        elif self.difference is Difference.GROUP:
            yield dataclasses.replace(at, group="another")
        elif self.difference is Difference.LATE:
            yield from (None, None, at)
        yield from after


class Detects(Protocol):
    """What tells a wait that can end from one that cannot: see detector.py."""

    wrong: str

    def stopped(self) -> Any: ...


def drawn(seed: Any, ranks: int, calls: Sequence[Call]) -> Divergence:
    """A divergence that depends on the text of ``seed`` alone. Only what all ranks see of a collective differs."""
    chance = Random(repr(seed))
    rank, number = chance.randrange(ranks), chance.randrange(len(calls))
    at = calls[number]
    unseen = {Difference.SIZE: at.metadata or at.shape is None, Difference.GROUP: at.metadata}
    return Divergence(chance.choice([one for one in Difference if not unseen.get(one)]), rank, number)


def replay(network: Network, calls: Sequence[Call], divergence: Divergence) -> bool:
    """Whether all ranks of the network get through ``calls``, one of them with a divergence."""

    def body(own: Sequence[Call | None]) -> None:
        for call in own:
            if call is None:
                network.work()
                continue
            if call.metadata:
                network.metadata[network.rank].append(True)
            network.issue(call).wait()

    bodies = [partial(body, calls) for _ in range(network.size)]
    bodies[divergence.rank] = partial(body, list(divergence.of(calls)))
    try:
        network.run(bodies)
    except (Mismatch, Hang):
        return False
    return True


def judged(watch: Callable[[Network], Detects], seed: Any, ranks: int, calls: Sequence[Call]) -> tuple[str, str]:
    """What a detector makes of a divergence in ``calls``, and in what it is wrong ("" if in nothing)."""
    network, divergence = Network(ranks), drawn(seed, ranks, calls)
    detector = watch(network)
    verdict = "none stops" if replay(network, calls, divergence) else detector.stopped().name
    network.close()
    wrong = detector.wrong and f"{divergence}: {detector.wrong}"
    return f"one rank {divergence.difference.value}: {verdict}", wrong
