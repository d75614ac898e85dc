# SPDX-License-Identifier: Apache-2.0
"""What a rank does now and did last: the phase that it is in, and a ring of its last steps.

On the hot path, so a step costs a few clock reads and three tuples, whatever the size of the ring.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
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
    """What a rank waits for the others in."""

    METADATA = "the other ranks' batches"
    FORWARD = "the collectives of its forward pass"
    ENGINES = "the other engines to say whether they have requests"


class Limit(NamedTuple):
    """How long a phase may take, and the name of the setting that says so."""

    seconds: float
    setting: str


class Waiting(NamedTuple):
    """A phase, when it began (``time.monotonic``), and its limit; None: as long as it likes, or it ends by itself."""

    phase: Phase
    since: float
    limit: Optional[Limit]


class Step(NamedTuple):
    """One step of one rank. Times are ``time.monotonic``; the plan and those after it are None until they are known.

    ``what`` is the runner's entry point. Between ``issued`` and ``awaited`` the rank prepares its inputs.
    """

    number: int
    what: str
    batch: LocalBatch
    issued: float
    awaited: Optional[float] = None
    known: Optional[float] = None
    ended: Optional[float] = None
    plan: Optional[StepPlan] = None


class Flight:
    """The recorder of one rank. All of a step is written by one thread; any thread may read.

    ``timeout`` is what a phase may take, ``start_timeout`` what it may take within ``patiently``.
    ``bounds_itself`` says that the wait for the metadata takes ``metadata_timeout`` and raises by itself.
    """

    def __init__(
        self,
        capacity: int,
        timeout: Optional[Limit] = None,
        start_timeout: Optional[Limit] = None,
        bounds_itself: bool = False,
    ) -> None:
        self.waiting: Optional[Waiting] = None
        self.current: Optional[Step] = None
        self.thread = 0
        self.on_failure: Callable[[str, Exception], object] = lambda _, __: None
        self._limit = timeout
        self._start_timeout = start_timeout
        self._bounds_itself = bounds_itself
        self._number = 0
        self._what = ""
        self._ring: list[Optional[Step]] = [None] * capacity

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Phases that begin within may take ``start_timeout``."""
        usual, self._limit = self._limit, self._start_timeout
        try:
            yield
        finally:
            self._limit = usual

    @contextmanager
    def engines(self) -> Iterator[None]:
        """Wait for the other engines, outside of any step."""
        self.thread = threading.get_ident()
        self.waiting = Waiting(Phase.ENGINES, time.monotonic(), self._limit)
        try:
            yield
        except Exception as error:
            self.on_failure(f"lost the other engines: {error!r}", error)
            raise
        finally:
            self.waiting = None

    @property
    def metadata_timeout(self) -> Optional[timedelta]:
        """How long the wait for the metadata may take by itself; None where it cannot be interrupted."""
        if not self._bounds_itself or self._limit is None:
            return None
        return timedelta(seconds=self._limit.seconds)

    def begin(self, what: str) -> bool:
        """Enter the runner at ``what``; false where this is a call within another."""
        if self._what:
            return False
        self._what = what
        self.thread = threading.get_ident()
        return True

    def issued(self, batch: LocalBatch) -> None:
        """The metadata collective of ``batch`` is on its way."""
        self._number += 1
        self.current = Step(self._number, self._what, batch, time.monotonic())

    def awaiting(self) -> None:
        """Nothing is left to do without the other ranks."""
        assert self.current is not None
        now = time.monotonic()
        self.current = self.current._replace(awaited=now)
        self.waiting = Waiting(Phase.METADATA, now, None if self._bounds_itself else self._limit)

    def decided(self, plan: StepPlan) -> None:
        """The metadata has come, and ``plan`` is what follows from it."""
        assert self.current is not None
        now = time.monotonic()
        self.current = self.current._replace(known=now, plan=plan)
        self.waiting = Waiting(Phase.FORWARD, now, self._limit)

    def end(self) -> None:
        """Leave the runner. A call that issued nothing leaves no step."""
        if self.current is not None and self._ring:
            self._ring[self.current.number % len(self._ring)] = self.current._replace(ended=time.monotonic())
        self.current = self.waiting = None
        self._what = ""

    def steps(self) -> list[Step]:
        """What the ring holds, oldest first, and the step in hand."""
        kept = sorted((step for step in self._ring if step is not None), key=lambda step: step.number)
        current = self.current
        return kept if current is None else [*kept, current]


class NoFlight(Flight):
    """Records nothing."""

    def __init__(self) -> None:
        super().__init__(0)

    def begin(self, what: str) -> bool:  # noqa: ARG002
        return False

    def issued(self, batch: LocalBatch) -> None:
        pass

    def awaiting(self) -> None:
        pass

    def decided(self, plan: StepPlan) -> None:
        pass


NO_FLIGHT = NoFlight()
