# SPDX-License-Identifier: Apache-2.0
"""A beat: what a rank tells the others about itself, now and then; and how a rank looks at itself to tell it."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, replace
from enum import Enum
from types import FrameType
from typing import Callable, Mapping, Optional, Sequence

from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import Phase, Recorder
from vllm_ascend.data_parallel.stacks import StackTrace, frames_of, stack_of_frames

# Where vLLM's engine waits for its first request, and the modules in which it sleeps then.
_ENGINE_LOOP = "run_busy_loop"
_SLEEPS_IN = ("queue", "threading")
# Where a worker in a process of its own takes its engine's orders, and the module whose function it calls for the next.
_WORKER_LOOP = "worker_busy_loop"
_ORDERS_FROM = "vllm.distributed.device_communicators.shm_broadcast"
# In these a rank only waits; a wait that is taken in turns moves nothing.
_WAITS = (Phase.METADATA, Phase.ENGINES)
# The module that issues the metadata, wherever in it a rank is.
_METADATA_MODULE = "data_parallel/synchronizer.py"
# Characters of the reason for an end that travel: a beat is one request, see told.py.
_ENDING = 300
# Collectives to which each rank may bring another number of rows.
_UNEQUAL = (
    "all_to_all",
    "all_to_all_single",
    "all_gather",
    "scatter",
    "gather",
    "send",
    "recv",
    "isend",
    "irecv",
    "batch_isend_irecv",
)


class State(Enum):
    """What a rank is seen to do."""

    WORKS = "works"
    """Its stack or its step moves, or it is in a call between two steps."""
    COLLECTIVE = "waits in"
    """In a collective, where it has not moved."""
    DEVICE = "waits for the device, or is in a call that Python does not see into,"
    """Within a step, in no collective, and it has not moved. Its device may be computing."""
    IDLE = "has no request and waits for one"


@dataclass(frozen=True)
class Collective:
    """A meeting of ranks. Two ranks are in the same one if theirs are equal.

    ``ranks`` names the members without listing them: the first world rank and their number; None where they are not
    known. ``step`` is that of the metadata, 0 of other collectives.
    """

    op: str
    group: str
    ranks: Optional[tuple[int, int]]
    step: int
    tensor: Optional[str] = None

    def __str__(self) -> str:
        of = f" of {self.tensor}" if self.tensor else ""
        return f"{self.op}{of} on the group {self.group}"

    @property
    def meeting(self) -> tuple[object, ...]:
        """What is equal on all members: the tensor is not where each rank brings its own number of rows."""
        return self.op, self.group, self.ranks, self.step, None if self.op in _UNEQUAL else self.tensor


@dataclass(frozen=True)
class Beat:
    """A rank at one moment.

    ``count`` grows with each beat. ``seconds`` is for how long it has been as it is, by its own clock. ``decision`` is
    what it computed from the metadata of ``step``; None where it has none, or decides its rows alone. ``lost_next``
    says that its connection to the process of the next rank broke. ``ending`` is why the rank ends, once it does.
    """

    rank: int
    count: int
    state: State
    step: int
    phase: Optional[str]
    seconds: float
    at: str
    collective: Optional[Collective] = None
    decision: Optional[str] = None
    lost_next: bool = False
    ending: Optional[str] = None

    def __str__(self) -> str:
        where = f" {self.collective}" if self.collective else ""
        within = f"step {self.step}" if self.phase else f"after step {self.step}"
        return f"{self.state.value}{where} ({within}, {self.at})"

    def dumps(self) -> str:
        """The form in which it travels, some 200 bytes."""
        members = {**asdict(self), "state": self.state.name, "ending": self.ending and self.ending[:_ENDING]}
        return json.dumps(members, separators=(",", ":"))

    @classmethod
    def loads(cls, data: str | bytes) -> Beat:
        """The inverse of ``dumps``."""
        members = json.loads(data)
        collective = members.pop("collective")
        if collective is not None:
            ranks = collective.pop("ranks")
            collective = Collective(ranks=ranks and tuple(ranks), **collective)
        return cls(**{**members, "state": State[members["state"]], "collective": collective})


@dataclass(frozen=True)
class Look:
    """What one rank has read of the others at ``at`` (seconds of its ``time.monotonic``).

    ``beats`` are the last ones by world rank, and ``heard`` when the first of that count was read.
    """

    at: float
    beats: Mapping[int, Beat]
    heard: Mapping[int, float]


def look_at(beats: Mapping[int, Beat], at: float, before: Optional[Look]) -> Look:
    """The look that has read ``beats``, after the look ``before``."""
    heard = dict.fromkeys(beats, at)
    if before is not None:
        same = [rank for rank, beat in beats.items() if rank in before.beats and beat.count == before.beats[rank].count]
        heard.update({rank: before.heard[rank] for rank in same})
    return Look(at, beats, heard)


def silence_s(period_s: float) -> float:
    """After how many seconds without a new beat a rank says nothing: it may be late with one, or with two."""
    return 3 * period_s + 1.0


class Observer:
    """Looks at the thread that runs this rank's steps, and remembers since when it has not moved.

    ``dp_ranks`` are the world ranks of the DP group, and ``loss`` says why it can make no step any more. A rank that is
    never looked at costs nothing.
    """

    def __init__(
        self, rank: int, recorder: Recorder, dp_ranks: tuple[int, int], loss: Callable[[], Optional[str]] = lambda: None
    ) -> None:
        self._rank = rank
        self._recorder = recorder
        self._dp_ranks = dp_ranks
        self._loss = loss
        self._seen: object = None
        self._since = self._resumed = 0.0
        self._count = 0

    def look(self, now: float) -> Beat:
        """This rank at ``now``, seconds of ``time.monotonic``."""
        recorder = self._recorder
        frames = frames_of(recorder.thread)
        entered, step = recorder.entered, recorder.current
        idle = entered is None and _waits_for_orders(frames)
        seen = (entered, step, idle or [(id(frame.f_code), frame.f_lasti) for frame in frames])
        moved = seen != self._seen
        if moved:
            self._seen, self._since = seen, now
        stack = stack_of_frames(frames) if frames else None
        self._count += 1
        beat = Beat(
            rank=self._rank,
            count=self._count,
            state=State.WORKS,
            step=recorder.number if step is None else step.number,
            phase=entered and entered.phase.name,
            seconds=now - self._since,
            at=stack.at if stack else "its thread has ended",
            decision=None if step is None or step.plan is None or step.alone else _digest(step.plan),
            ending=self._loss(),
        )
        if idle:
            return replace(beat, state=State.IDLE)
        collective = self._collective(entered and entered.phase, 0 if step is None else step.number, stack)
        if entered is not None and entered.phase in _WAITS:
            since = max(entered.since, self._resumed)
            return replace(beat, state=State.COLLECTIVE, collective=collective, seconds=now - since)
        if moved or (entered is None and (collective is None or collective.ranks is None)):
            return beat  # between steps anything but a collective of vLLM's is work
        return replace(beat, state=State.DEVICE if collective is None else State.COLLECTIVE, collective=collective)

    def resume(self, now: float) -> None:
        """This process was stopped itself: what it has seen began anew at ``now``."""
        self._since = self._resumed = now

    def _collective(self, phase: Optional[Phase], step: int, stack: Optional[StackTrace]) -> Optional[Collective]:
        if phase is Phase.ENGINES:
            return Collective("all_reduce", "of vLLM's engines", self._dp_ranks, 0)
        if phase is Phase.METADATA or (stack is not None and _METADATA_MODULE in stack.at):
            return Collective("all_reduce", "of the metadata", self._dp_ranks, step)
        if stack is None or stack.op is None or stack.group is None:
            return None
        # Matched by group and order alone: a rank that drafts has left the step in which another one still is.
        return Collective(stack.op, stack.group, stack.ranks, 0, stack.tensor)


def _digest(plan: StepPlan) -> str:
    return f"{zlib.crc32(repr((plan.metadata, plan.uniform_size)).encode()):08x}"


def _waits_for_orders(frames: Sequence[FrameType]) -> bool:
    """Whether an engine sleeps in its loop, or a worker asks in its loop what to do; innermost frame first."""
    for called, frame in zip(frames, frames[1:]):
        if frame.f_code.co_name == _ENGINE_LOOP:
            return _module(frames[0]) in _SLEEPS_IN
        if frame.f_code.co_name == _WORKER_LOOP:
            return _module(called) == _ORDERS_FROM
    return False


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
