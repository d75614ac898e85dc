# SPDX-License-Identifier: Apache-2.0
"""The watchdog's verdict on the simulated ranks: a wait that may end is no deadlock, and each that cannot is one.

Layers' kernels are simulated as on a device that is waited for, so that each rank is in the first collective that the
others are not in. A kernel of MC2 is none of torch.distributed's, and what lies in it cannot be seen from outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from simulation.checker import MakeRank, Outcome
from simulation.network import Call, Network
from simulation.record import Invariant
from simulation.schedule import Schedule
from simulation.search import Violation, search
from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Beat, Collective, State, look_at
from vllm_ascend.data_parallel.verdict import Finding, judge

_LONG, _STILL, _SILENCE = 60.0, 21.0, 16.0
_OPS = {"all_gather": "all_gather_into_tensor", "reduce_scatter": "reduce_scatter_tensor"}
_KERNEL = "mc2"
# To it each rank may bring another number of rows.
_ANY = "all_to_all"


class Detector:
    """Watches a network from its start. ``wrong`` says in what a verdict was wrong; "" while none was."""

    def __init__(self, network: Network) -> None:
        self.wrong = ""
        self._network = network
        self._called: tuple[int, ...] | None = None
        network.after_turn = self._turn

    def stopped(self) -> Finding:
        """The verdict on ranks that cannot go on, after a Mismatch or a Hang."""
        stopped = self._network.stop()
        beats = [self._beat(rank, *where) for rank, where in enumerate(stopped)]
        finding, ends = self._judge(beats), may_end(stopped)
        if ends is (finding is Finding.DEADLOCK):
            what = "a wait that may end" if ends else "a deadlock"
            self.wrong = self.wrong or f"{what} is called {finding.name}: {'; '.join(map(str, beats))}"
        return finding

    def _turn(self) -> None:
        network = self._network
        if self._called not in (None, network.progress):
            self.wrong = "ranks went on that were called a deadlock"
        beats = []
        for rank in range(network.size):
            place, step = network.waits[rank], len(network.metadata[rank])
            works = rank not in network.ended if place is None else len(place.ranks) == network.size
            if works:
                beats.append(Beat(rank, 1, State.WORKS, step, None, _LONG, ""))
            else:
                beats.append(self._beat(rank, place and place.call, step))
        waits = any(beat.state is State.COLLECTIVE for beat in beats)
        self._called = network.progress if waits and self._judge(beats).proved else None

    def _beat(self, rank: int, call: Call | None, step: int) -> Beat:
        if call is None:
            return Beat(rank, 1, State.IDLE, step, None, _LONG, "")
        if call.name.startswith(_KERNEL):
            return Beat(rank, 1, State.DEVICE, step, "FORWARD", _LONG, call.name)
        ranks = (0, self._network.size)
        if call.metadata:
            collective = Collective("all_reduce", "of the metadata", ranks, step)
        else:
            tensor = None if call.shape is None else str(call.shape)
            collective = Collective(_OPS.get(call.name, call.name.split()[0]), call.group, ranks, step, tensor)
        return Beat(rank, 1, State.COLLECTIVE, step, "FORWARD", _LONG, str(call), collective)

    def _judge(self, beats: Sequence[Beat]) -> Finding:
        look = look_at({beat.rank: beat for beat in beats}, 0.0, None)
        return judge(Members(range(self._network.size)), look, _SILENCE, _STILL).finding


def may_end(stopped: Sequence[tuple[Call | None, int]]) -> bool:
    """Whether, from all that can be seen of ranks, one of them may yet move: each with its call and its step.

    Ranks in a kernel may wait for one that computes. A rank that has ended may be woken by a request and join any
    collective, and one that all others are in then ends. Told here anew: the overlay's own answer is what is tried.
    """
    calls = [(call, step) for call, step in stopped if call is not None]
    if not calls or any(call.name.startswith(_KERNEL) for call, _ in calls):
        return True
    meetings = Counter(_seen(call, step) for call, step in calls)
    return max(meetings.values()) + len(stopped) - len(calls) >= len(stopped)


def _seen(call: Call, step: int) -> tuple[object, ...]:
    """As much of a call as a watchdog sees: not the root of a broadcast, nor what each rank brings to an all-to-all."""
    if call.metadata:
        return "of the metadata", step
    name = call.name.split()[0]
    return call.group, name, None if name == _ANY else call.shape


def wrong_verdict(
    make: MakeRank, count: int, start: int, seen: Callable[[Schedule, Outcome], None] = lambda *_: None
) -> Violation | None:
    """The first of ``count`` schedules on which the watchdog is wrong, whatever else is; arguments as of `search`."""
    return search(
        make, count, start, lambda finding, _: finding.invariant is not Invariant.DETECTION, seen, Detector
    ).violation
