# SPDX-License-Identifier: Apache-2.0
"""Finds out what a rank that waits too long waits for, says so, and ends the rank where that wait cannot end well.

A wait for the device, and one in gloo that upstream started, cannot be interrupted from Python, and the thread that
waits would never see an exception. So a second thread watches the first. A wait that has lasted for the first limit is
held against what the other ranks do (`verdict`): a deadlock, or a rank that has gone, ends this rank; while another one
works the wait goes on, and is told now and then; one of which nothing is proved ends with the last limit.

A process that is vLLM's own ends; vLLM sees its engine or worker die and ends the rest. A process of the user, which
has an engine inside, is never ended: what happened is logged and written, and raised where the wait lets it.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Callable, Optional

from vllm.logger import logger

from vllm_ascend.data_parallel.beats import Beat, Observer, State, silence_s
from vllm_ascend.data_parallel.exchange import Exchange
from vllm_ascend.data_parallel.recorder import Entered, Recorder
from vllm_ascend.data_parallel.settings import END_TIMEOUT, START_TIMEOUT, TIMEOUT
from vllm_ascend.data_parallel.stacks import stack_of, stack_of_error
from vllm_ascend.data_parallel.tracefile import Identity, Snapshot, TraceFiles
from vllm_ascend.data_parallel.verdict import Finding, Verdict, describe, judge

# The ranks end at about the same time; the first to do so breaks the others' connections.
GRACE_S = 2.0
EXIT_CODE = 1
_POLL_S = 0.5
# A gap between two polls that long is one in which this process was stopped itself.
_STOPPED_S = 20 * _POLL_S
_MOST_PERIOD_S = 5.0
_FLUSH_S = 0.5
_TOGETHER_S = 0.5
_STORE_KEEPER = 0  # world rank whose process keeps the store


@dataclass(frozen=True)
class Limits:
    """Seconds; None for ever. ``first`` is when a wait is looked into, the others when it ends without a proof."""

    first: Optional[float]
    start: Optional[float]
    end: Optional[float]

    @property
    def none(self) -> bool:
        """Whether no wait is ever looked into."""
        return self.first is self.start is self.end is None

    @property
    def period_s(self) -> float:
        """How often the ranks tell how they are: some times within the first limit."""
        return max(_POLL_S, min(_MOST_PERIOD_S, (self.first or _MOST_PERIOD_S) / 6))

    @property
    def still_s(self) -> float:
        """How long a rank has not moved if it has stopped: longer than the age of any beat that counts."""
        return silence_s(self.period_s) + self.period_s + 2 * _POLL_S

    def of(self, entered: Optional[Entered]) -> Optional[float]:
        """When a wait is looked into."""
        if entered is None or self.first is not None:
            return self.first
        return self.last(starting=entered.starting)[0]

    def last(self, *, starting: bool) -> tuple[Optional[float], str]:
        """The limit of a wait of which nothing is proved, and the name of the setting that says so."""
        return (self.start, START_TIMEOUT.name) if starting else (self.end, END_TIMEOUT.name)


class Reporter:
    """Writes and logs what a rank remembers, and what the others say.

    ``traces`` is None for an engine that runs no steps itself.
    """

    def __init__(
        self,
        identity: Identity,
        recorder: Recorder,
        observer: Observer,
        exchange: Exchange,
        traces: Optional[TraceFiles],
    ) -> None:
        self.identity = identity
        self.recorder = recorder
        self._observer = observer
        self._exchange = exchange
        self._traces = traces
        self._lock = threading.Lock()
        self._told: object = None

    def has_told(self, wait: object) -> bool:
        """Whether a report of this wait has been written, or is being written."""
        return wait is not None and self._told is wait

    def failed(self, why: str, error: Exception) -> None:
        """Report that a step ended with ``error``."""
        if self.has_told(self.recorder.entered) or self.recorder.given_up is not None:
            return
        beat = replace(self._observer.look(time.monotonic()), ending=why)
        if stack := stack_of_error(error):  # by now this thread is here
            beat = replace(beat, at=stack.at)
        self._exchange.refresh(beat, GRACE_S / 2)
        time.sleep(_TOGETHER_S)  # what one rank loses all lose, and each says so
        look = self._exchange.refresh(beat, GRACE_S / 2)
        peers = "" if look is None else describe(self._exchange.members, look.beats)
        self.start(why, peers, error).join(GRACE_S)

    def start(self, why: str, peers: str, error: Optional[Exception] = None) -> threading.Thread:
        """Report by a thread of its own: a disk or a log that hangs must not keep this process."""
        return _thread(functools.partial(self.report, why, peers, error), "report")

    def report(self, why: str, peers: str, error: Optional[Exception] = None) -> None:
        """Write the trace file, then log the rank's state, its last steps and what the other ranks say.

        ``error`` is what a step ended with; without it, the step is looked at where it is.
        """
        self._told = self.recorder.entered
        with self._lock:
            stack = stack_of(self.recorder.thread) if error is None else stack_of_error(error)
            snapshot = Snapshot.take(self.identity, self.recorder, why, stack, tuple(peers.splitlines()))
            said = (snapshot.text(), f"{self.identity}: of all ranks,", self._silence(), peers, self._trace(snapshot))
            logger.error("%s", "\n".join(filter(None, said)))

    def _silence(self) -> str:
        """Why ``peers`` may be nothing, or old."""
        exchange = self._exchange
        if exchange.answers and not exchange.lost:
            return ""
        keeper = exchange.members.name(_STORE_KEEPER) if _STORE_KEEPER in exchange.members.ranks else "a process"
        return f"no answer of {keeper}, which keeps the store: its process has stopped or gone, or is out of reach"

    def _trace(self, snapshot: Snapshot) -> str:
        """Written by a thread of its own, for a while; what to tell of the file."""
        traces, told = self._traces, list[str]()
        if traces is None:
            return ""
        _thread(lambda: told.append(traces.write(snapshot)), "trace").join(GRACE_S / 2)
        return told[0] if told else f"no trace file: {traces.folder} does not answer"


class Watchdog:
    """The thread that watches one rank. ``ours`` says that this process is vLLM's, which may be ended."""

    def __init__(
        self, reporter: Reporter, observer: Observer, exchange: Exchange, limits: Limits, *, ours: bool
    ) -> None:
        self._reporter = reporter
        self._recorder = reporter.recorder
        self._observer = observer
        self._exchange = exchange
        self._limits = limits
        self._ours = ours
        self._stopped = threading.Event()
        self._warn_at: Optional[float] = None
        self._suspected: Optional[float] = None
        self._worked = 0.0

    def start(self) -> None:
        """Watch until ``stop``, or the process ends."""
        self._exchange.tell(self._observer.look(time.monotonic()), look=False)
        self._exchange.start()
        _thread(self._run, "watchdog")

    def stop(self) -> None:
        """Watch no more, and tell the others nothing more; its thread ends at its next poll."""
        self._stopped.set()
        self._exchange.stop()

    def _run(self) -> None:
        polled = time.monotonic()
        while not self._stopped.is_set():
            now = time.monotonic()
            if now - polled > _STOPPED_S:
                self._observer.resume(now)
            polled = now
            self._poll(now)
            self._stopped.wait(_POLL_S)

    def _poll(self, now: float) -> None:
        beat, entered = self._observer.look(now), self._recorder.entered
        first = self._limits.of(entered) if beat.state in (State.COLLECTIVE, State.DEVICE) else None
        look = first is not None and beat.seconds >= first - self._limits.still_s
        self._exchange.tell(beat, look=look)
        if entered is None or first is None or beat.seconds < first:
            if self._warn_at is not None:
                _say(logger.warning, "%s: the wait is over; going on", self._reporter.identity)
            self._warn_at = self._suspected = None
            self._worked = 0.0
            return
        if self._reporter.has_told(entered):  # an engine inside the user's process
            return
        verdict = self._verdict(beat)
        if verdict.finding is Finding.WORKING:
            self._worked = beat.seconds
        last, setting = self._limits.last(starting=entered.starting)
        over = last is not None and beat.seconds - self._worked >= last
        if over or self._proved(verdict):
            of = TIMEOUT.name if verdict.finding.proved else setting
            self._end(
                beat, f"{verdict.why(self._exchange.members)}; has waited for {beat.seconds:.0f} s ({of})", verdict
            )
        elif not verdict.finding.proved and (self._warn_at is None or beat.seconds >= self._warn_at):
            self._warn_at = 2 * beat.seconds
            text = "%s has waited for %.0f s; %s; waiting on:\n%s"
            why = verdict.why(self._exchange.members)
            _say(logger.warning, text, self._reporter.identity, beat.seconds, why, verdict.told)

    def _proved(self, verdict: Verdict) -> bool:
        """A deadlock is one in two looks: a request may have come to an idle rank between its beat and the first."""
        look = self._exchange.now
        if verdict.finding is not Finding.DEADLOCK or look is None:
            self._suspected = None
            return verdict.finding.proved
        suspected, self._suspected = self._suspected, self._suspected or look.at
        return suspected is not None and min(look.heard.values()) > suspected

    def _verdict(self, beat: Beat) -> Verdict:
        exchange = self._exchange
        now = exchange.now
        told = "" if now is None else describe(exchange.members, now.beats)
        keeper = (_STORE_KEEPER,) if _STORE_KEEPER in exchange.members.ranks else ()
        if exchange.lost:
            return Verdict(Finding.GONE if keeper else Finding.SILENT, keeper, told)
        if now is None or not exchange.answers:
            return Verdict(Finding.SILENT, keeper, told)
        told_last = now.beats.get(beat.rank)
        mine = replace(beat, lost_next=told_last is not None and told_last.lost_next)
        now = replace(now, beats={**now.beats, beat.rank: mine}, heard={**now.heard, beat.rank: now.at})
        return judge(exchange.members, now, silence_s(self._limits.period_s), self._limits.still_s)

    def _end(self, beat: Beat, why: str, verdict: Verdict) -> None:
        wait = self._recorder.entered
        if wait is None:
            return
        deadline = time.monotonic() + GRACE_S
        ends = f"{why}; ending this process" if self._ours else why
        self._exchange.refresh(replace(beat, ending=why), _POLL_S)
        self._reporter.start(ends, verdict.told)
        while time.monotonic() < deadline and self._recorder.entered is wait:
            time.sleep(GRACE_S / 20)
        if self._recorder.entered is not wait:
            _say(logger.error, "%s: the wait is over after all; going on", self._reporter.identity)
        elif self._ours:
            _flush()
            os._exit(EXIT_CODE)
        else:
            self._recorder.given_up = why


def _say(log: Callable[..., object], text: str, *values: object) -> None:
    """Log, and go on where the log hangs."""
    _thread(functools.partial(log, text, *values), "log").join(_FLUSH_S)


def _flush() -> None:
    """As much as the streams take at once: one of them may be a pipe that nobody reads."""

    def flush() -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    _thread(flush, "flush").join(_FLUSH_S)


def _thread(target: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=f"data-parallel {name}", daemon=True)
    thread.start()
    return thread
