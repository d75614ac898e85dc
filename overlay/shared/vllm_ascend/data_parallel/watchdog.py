# SPDX-License-Identifier: Apache-2.0
"""Ends a rank that waits too long for the others, after it has said what it waits for.

A wait for the device, and one in gloo that upstream started, cannot be interrupted from Python, and the thread that
waits would never see an exception. So a second thread watches the first: past the limit it logs and writes the rank's
trace, gives the other ranks ``GRACE_S`` to do the same, and ends the process. vLLM sees its engine or worker die and
ends the rest.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Optional

from vllm.logger import logger

from vllm_ascend.data_parallel.flight import Flight, Limit, Waiting
from vllm_ascend.data_parallel.place import place_of, place_of_error
from vllm_ascend.data_parallel.rollcall import RollCall
from vllm_ascend.data_parallel.tracefile import ChoiceOf, Identity, Snapshot

# The ranks reach their limits at about the same time; the first to end breaks the others' connections.
GRACE_S = 2.0
EXIT_CODE = 1
_POLL_S = 0.5


class Reporter:
    """Logs and writes what a rank remembers, and asks who else has come to the same point."""

    def __init__(
        self, identity: Identity, flight: Flight, roll_call: RollCall, folder: Path, choice_of: ChoiceOf
    ) -> None:
        self.identity = identity
        self.flight = flight
        self.roll_call = roll_call
        self._folder = folder
        self._choice_of = choice_of
        self._lock = threading.Lock()
        self._told: Optional[Waiting] = None

    def has_told(self, waiting: Waiting) -> bool:
        """Whether a report of this wait has been written, or is being written."""
        return self._told is waiting

    def report(self, why: str, error: Optional[Exception] = None) -> None:
        """Log the rank's state and last steps, write its trace file, and log what the other ranks say.

        ``error`` is what a step ended with; without it, the step is looked at where it is.
        """
        self._told = self.flight.waiting
        with self._lock:
            place = place_of(self.flight.thread) if error is None else place_of_error(error)
            snapshot = Snapshot.take(self.identity, self.flight, why, place)
            logger.error(snapshot.text())
            try:
                path = snapshot.write(self._folder, self._choice_of)
                trace = f"trace: {path}; `patchset trace` lines up those of all ranks"
            except Exception as unwritten:  # a full disk must not hide why the rank ends
                trace = f"no trace file: {unwritten!r}"
            logger.error("%s: of all ranks,\n%s\n%s", self.identity, self.roll_call.ask(snapshot.where), trace)


class Watchdog:
    """The thread that watches one rank."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._flight = reporter.flight

    def start(self) -> None:
        """Watch until the process ends."""
        threading.Thread(target=self._run, name="data-parallel watchdog", daemon=True).start()

    def _run(self) -> None:
        while True:
            waiting = self._flight.waiting
            left = _POLL_S
            if waiting is not None and waiting.limit is not None:
                left = waiting.since + waiting.limit.seconds - time.monotonic()
                if left <= 0:
                    self._expire(waiting, waiting.limit)
            time.sleep(max(0.0, min(left, _POLL_S)))

    def _expire(self, waiting: Waiting, limit: Limit) -> None:
        if self._flight.waiting is not waiting:
            return
        deadline = time.monotonic() + GRACE_S
        why = f"has waited for {limit.seconds:g} s ({limit.setting}); ending this process"
        # A wait that has failed stands until its report is written, and may so come to its limit.
        failing = self._reporter.has_told(waiting)
        if not failing:  # by a thread of its own: a disk or a log that hangs too must not keep this process
            report = functools.partial(self._reporter.report, why)
            threading.Thread(target=report, name="data-parallel report", daemon=True).start()
        while time.monotonic() < deadline and self._flight.waiting is waiting:
            time.sleep(GRACE_S / 20)
        if self._flight.waiting is not waiting:
            if not failing:
                logger.error("%s: the wait is over after all; going on", self._reporter.identity)
                self._reporter.roll_call.leave()
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_CODE)
