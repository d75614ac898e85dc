# SPDX-License-Identifier: Apache-2.0
"""What a rank does now and did last: the phase that it is in, and a ring of its last steps.

On the hot path, so a step costs a few clock reads and three tuples, whatever the size of the ring.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from enum import Enum
from typing import Callable, Iterator, NamedTuple, Optional

from vllm_ascend.data_parallel.metadata import LocalBatch
from vllm_ascend.data_parallel.plan import StepPlan

# What the ring may hold of the host's memory, whatever the number of steps and ranks.
MOST_BYTES = 64 << 20
# A step's own objects, and for each rank a slot and a number in the metadata; both rounded up.
_STEP_BYTES, _RANK_BYTES = 1024, 48


def most_steps(wanted: int, dp_size: int) -> int:
    """As many of ``wanted`` steps of ``dp_size`` ranks as a ring may hold."""
    return min(wanted, MOST_BYTES // (_STEP_BYTES + _RANK_BYTES * dp_size))


class Phase(Enum):
    """Which part of a step a rank is in, by what it may wait for there."""

    PREPARE = "its own inputs"
    METADATA = "the other ranks' batches"
    FORWARD = "the collectives of its forward pass"
    ENGINES = "the other engines to say whether they have requests"


class Entered(NamedTuple):
    """A phase, when it began (``time.monotonic``), and whether it is part of the start, which is waited for longer."""

    phase: Phase
    since: float
    starting: bool = False


class Step(NamedTuple):
    """One step of one rank. Times are ``time.monotonic``; the plan and those after it are None until they are known.

    ``what`` is the runner's entry point. Between ``issued`` and ``awaited`` the rank prepares its inputs. ``alone``
    says that it decided its rows without the others, where nothing depends on them. Where a time becomes known, a step
    is made anew from its fields: `_replace` takes four times as long.
    """

    number: int
    what: str
    batch: LocalBatch
    issued: float
    awaited: Optional[float] = None
    known: Optional[float] = None
    ended: Optional[float] = None
    plan: Optional[StepPlan] = None
    alone: bool = False


class Recorder:
    """The recorder of one rank. All of a step is written by one thread; any thread may read.

    ``entered`` is None outside of steps; ``number`` is that of the last step that was begun. ``thread`` is the
    identifier of the thread that runs the steps. ``given_up`` says why the wait in hand is not to go on.
    """

    def __init__(self, capacity: int) -> None:
        self.entered: Optional[Entered] = None
        self.current: Optional[Step] = None
        self.thread = threading.get_ident()
        self.given_up: Optional[str] = None
        self.on_failure: Callable[[str, Exception], object] = lambda _, __: None
        self._starting = False
        self._first = True  # which builds communicators, and compiles
        self.number = 0
        self._what = ""
        self._ring: list[Optional[Step]] = [None] * capacity

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Phases that begin within are part of the start."""
        usual, self._starting = self._starting, True
        try:
            yield
        finally:
            self._starting = usual

    @contextmanager
    def engines(self) -> Iterator[None]:
        """Wait for the other engines, outside of any step."""
        self.thread = threading.get_ident()
        self._enter(Phase.ENGINES, time.monotonic())
        try:
            yield
        except Exception as error:
            self.on_failure(f"lost the other engines: {error!r}", error)
            raise
        finally:
            self.entered = None

    def begin(self, what: str) -> bool:
        """Enter the runner at ``what``; false where this is a call within another."""
        if self._what:
            return False
        self._what = what
        self.thread = threading.get_ident()
        self._enter(Phase.PREPARE, time.monotonic())
        return True

    def issued(self, batch: LocalBatch) -> None:
        """The metadata collective of ``batch`` is about to be issued."""
        self.number += 1
        self.current = Step(self.number, self._what, batch, time.monotonic())

    def awaiting(self) -> None:
        """Nothing is left to do without the other ranks."""
        assert self.current is not None
        now = time.monotonic()
        number, what, batch, issued, *_ = self.current
        self.current = Step(number, what, batch, issued, now)
        self._enter(Phase.METADATA, now)

    def decided(self, plan: StepPlan, *, alone: bool = False) -> None:
        """The metadata has come, or the rank needs none, and ``plan`` is what follows from it."""
        assert self.current is not None
        now = time.monotonic()
        number, what, batch, issued, awaited, *_ = self.current
        self.current = Step(number, what, batch, issued, awaited, now, None, plan, alone)
        self._enter(Phase.FORWARD, now)
        if not self._what:  # another program's method, of which nobody says when it ends
            self.end()

    def end(self) -> None:
        """Leave the runner. A call that issued nothing leaves no step."""
        if self.current is not None:
            if self._ring:
                number, what, batch, issued, awaited, known, _, plan, alone = self.current
                ended = Step(number, what, batch, issued, awaited, known, time.monotonic(), plan, alone)
                self._ring[number % len(self._ring)] = ended
            self._first = False
        self.current = self.entered = None
        self._what = ""

    def steps(self) -> list[Step]:
        """The steps that are still known, oldest first, the one in hand at the end."""
        known = [step for step in [*self._ring, self.current] if step is not None]
        return sorted(known, key=lambda step: step.number)

    def _enter(self, phase: Phase, now: float) -> None:
        self.given_up = None
        self.entered = Entered(phase, now, self._starting or self._first)


class EngineRecorder(Recorder):
    """Of an engine whose steps are run by other processes: it waits for the other engines alone."""

    def __init__(self) -> None:
        super().__init__(0)

    @contextmanager
    def engines(self) -> Iterator[None]:
        with super().engines():
            yield
        self._first = False


class NoRecorder(Recorder):
    """Records nothing: for one rank, and where both the limits and the trace are off."""

    def __init__(self) -> None:
        super().__init__(0)

    def begin(self, what: str) -> bool:  # noqa: ARG002
        return False

    def issued(self, batch: LocalBatch) -> None:
        pass

    def awaiting(self) -> None:
        pass

    def decided(self, plan: StepPlan, *, alone: bool = False) -> None:
        pass


NO_RECORDER = NoRecorder()
