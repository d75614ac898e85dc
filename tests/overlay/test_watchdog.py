# SPDX-License-Identifier: Apache-2.0
"""Two ranks in processes of their own, and what becomes of one that waits: by what the other does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FORK, LATEST, Keeper, until
from test_recorder import choice_of
from torch.distributed import TCPStore

from vllm_ascend.data_parallel import watchdog
from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Observer
from vllm_ascend.data_parallel.exchange import Exchange
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import Recorder
from vllm_ascend.data_parallel.tracefile import Identity, Snapshot, TraceFiles
from vllm_ascend.data_parallel.verdict import Finding
from vllm_ascend.data_parallel.watchdog import Limits, Reporter, Watchdog

pytestmark = pytest.mark.shared

FIRST = 1.5
LIMITS = Limits(FIRST, 600.0, 600.0)
PLAN = StepPlan(StepMetadata((1, 1), with_prefill=False, enable_dbo=False, graph_usable=False), 0)


class Log:
    """A logger whose lines outlive the process."""

    def __init__(self, file: Path, hangs: bool) -> None:
        self._file, self._hangs = file, hangs

    def __call__(self, text: str, *values: object) -> None:
        if self._hangs:
            time.sleep(LATEST)
        with self._file.open("a") as stream:
            stream.write((text % values if values else text) + "\n")

    error = warning = __call__


@dataclass(frozen=True)
class Rank:
    """One rank: what it does, and what of its process is out of order.

    ``does`` waits in the metadata of its second step, of a third ("ahead"), or works between two steps ("works"); until
    the file "go" is there. ``fails`` loses the others instead of that. ``is_late`` tells its beats more rarely than
    the others look at them.
    """

    does: str = "waits"
    limits: Limits = LIMITS
    ours: bool = True
    fails: bool = False
    is_late: bool = False
    disk_hangs: bool = False
    log_hangs: bool = False
    pipe_is_full: bool = False
    started: bool = True


def a_step(recorder: Recorder) -> None:
    recorder.begin("execute_model")
    recorder.issued(LocalBatch(1, False))
    recorder.awaiting()
    recorder.decided(PLAN)
    recorder.end()


def busy(go: Path) -> None:
    """Such as a profiler that writes its files."""
    while not go.exists():
        time.sleep(0.01)


def run(rank: Rank, number: int, port: int, folder: Path) -> None:
    log = Log(folder / "log", rank.log_hangs)
    watchdog.logger = log  # type: ignore[assignment]
    if rank.disk_hangs:
        Snapshot.write = lambda *_: time.sleep(LATEST)  # type: ignore[assignment, method-assign]
    if rank.pipe_is_full:
        fill_stdout()
    if rank.is_late:
        watchdog._POLL_S *= 2.5
    recorder, members = Recorder(4), Members(range(2))
    observer = Observer(number, recorder, (0, 2))
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=LATEST))
    exchange = Exchange(store, members, number, rank.limits.period_s)
    who = Identity(rank=number, dp_size=2, world_rank=number, host="node", pid=os.getpid(), build="b" * 64)
    reporter = Reporter(who, recorder, observer, exchange, TraceFiles(folder, choice_of))
    recorder.on_failure = reporter.failed
    Watchdog(reporter, observer, exchange, rank.limits, ours=rank.ours).start()
    while exchange._lifeline is None or not exchange._lifeline.connected:
        time.sleep(0.05)
    for _ in range(2 if rank.does == "ahead" else 1 if rank.started else 0):
        a_step(recorder)
    go = folder.parent / "go"
    if rank.fails:
        with contextlib.suppress(RuntimeError), recorder.engines():
            raise RuntimeError("Connection reset by peer")
        log.error("raised")
        time.sleep(1.0)
        return
    (folder / "there").touch()
    if rank.does == "works":
        busy(go)
    recorder.begin("execute_model")
    recorder.issued(LocalBatch(1, False))
    recorder.awaiting()
    while not go.exists() and recorder.given_up is None:
        time.sleep(0.05)
    log.error(f"given up: {recorder.given_up}" if recorder.given_up else "came")
    recorder.end()
    time.sleep(2.0)
    log.error("went on")


def fill_stdout() -> None:
    """Standard output is a pipe that nobody reads, and a thread hangs in it with its lock."""
    _, end = os.pipe()
    sys.stdout = os.fdopen(end, "w")  # not descriptor 1: pytest captures in a file, which is never full

    def write() -> None:
        while True:
            print("x" * 4096, flush=True)

    threading.Thread(target=write, daemon=True).start()
    while select.select([], [end], [], 0)[1]:
        time.sleep(0.01)


@dataclass
class Pair:
    """Both ranks, running. ``folder`` has a folder for each."""

    folder: Path
    processes: list[BaseProcess] = field(default_factory=list)

    def end(self, number: int) -> int | None:
        """Exit code of a rank that ends."""
        self.processes[number].join(LATEST)
        return self.processes[number].exitcode

    def log(self, number: int) -> str:
        file = self.folder / str(number) / "log"
        return file.read_text() if file.exists() else ""

    def traces(self, number: int) -> list[list[dict[str, Any]]]:
        files = (self.folder / str(number)).glob("*.jsonl")
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    def until(self, holds: Callable[[], bool]) -> None:
        until(holds, lambda: [self.log(number) for number in range(2)])

    def go(self) -> None:
        """What they wait for comes."""
        (self.folder / "go").touch()


Both = Callable[[Rank, Rank], Pair]


@pytest.fixture
def both(tmp_path: Path, keeper: Keeper) -> Iterator[Both]:
    pair = Pair(tmp_path)

    def start(*ranks: Rank) -> Pair:
        for number, rank in enumerate(ranks):
            folder = tmp_path / str(number)
            folder.mkdir()
            process = FORK.Process(target=run, args=(rank, number, keeper.port, folder))
            process.start()
            pair.processes.append(process)
        pair.until(lambda: all((tmp_path / str(n) / "there").exists() or rank.fails for n, rank in enumerate(ranks)))
        return pair

    yield start
    for process in pair.processes:
        process.kill()
        process.join()


def test_a_deadlock_ends_both_and_each_names_who_is_in_what(both: Both) -> None:
    pair = both(Rank(), Rank("ahead"))
    assert [pair.end(number) for number in range(2)] == [watchdog.EXIT_CODE] * 2
    for number in range(2):
        said = pair.log(number)
        assert "ending this process" in said and "went on" not in said
        assert "DP rank 0: waits in all_reduce on the group of the metadata (step 2, " in said
        assert "DP rank 1: waits in all_reduce on the group of the metadata (step 3, " in said
        ((head, *_, peers, wait),) = pair.traces(number)
        assert head["rank"] == number and wait["phase"] == "metadata" and len(peers["said"]) == 2
    assert any("no rank can move any more" in pair.log(number) for number in range(2))


def test_a_rank_that_works_is_waited_for_and_named(both: Both) -> None:
    pair = both(Rank(), Rank("works"))
    pair.until(lambda: "DP rank 1 still works" in pair.log(0))
    begin = time.monotonic()
    pair.until(lambda: time.monotonic() > begin + 3 * FIRST)
    pair.go()
    assert [pair.end(number) for number in range(2)] == [0, 0]
    assert "DP rank 1: works (after step 1, " in pair.log(0)
    assert "went on" in pair.log(0) and "ending" not in pair.log(0) + pair.log(1)
    assert pair.log(0).count("still works") <= 3  # ever more rarely


def test_a_rank_that_works_outlasts_the_last_limit_though_its_beats_are_late(both: Both) -> None:
    limits = Limits(FIRST, 600.0, 4 * FIRST)
    pair = both(Rank(limits=limits), Rank("works", limits, is_late=True))
    pair.until(lambda: "DP rank 1 still works" in pair.log(0))
    begin = time.monotonic()
    pair.until(lambda: time.monotonic() > begin + 8 * FIRST)
    pair.go()
    assert [pair.end(number) for number in range(2)] == [0, 0]
    assert "ending" not in pair.log(0) + pair.log(1)


def test_a_stopped_rank_is_named_and_waited_for(both: Both) -> None:
    pair = both(Rank(), Rank())
    pid = pair.processes[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    pair.until(lambda: "no word from DP rank 1: stopped, or out of reach" in pair.log(0))
    begin = time.monotonic()
    pair.until(lambda: time.monotonic() > begin + 2 * FIRST)
    os.kill(pid, signal.SIGCONT)
    time.sleep(1.0)
    pair.go()
    assert [pair.end(number) for number in range(2)] == [0, 0]
    assert "ending" not in pair.log(0) + pair.log(1)


def test_a_rank_whose_process_has_gone_ends_the_other(both: Both) -> None:
    pair = both(Rank(), Rank())
    pair.processes[1].kill()
    assert pair.end(0) == watchdog.EXIT_CODE
    assert "the process of DP rank 1 has gone; has waited for" in pair.log(0)
    assert "(VLLM_ASCEND_DP_TIMEOUT); ending this process" in pair.log(0)


def test_a_wait_of_which_nothing_is_proved_ends_with_the_last_limit(both: Both) -> None:
    limits = Limits(FIRST, 600.0, 2 * FIRST)
    pair = both(Rank(limits=limits), Rank(limits=limits))
    assert [pair.end(number) for number in range(2)] == [watchdog.EXIT_CODE] * 2
    assert "VLLM_ASCEND_DP_END_TIMEOUT" in pair.log(0) + pair.log(1)


def test_the_start_has_a_last_limit_of_its_own(both: Both) -> None:
    limits = Limits(FIRST, 2 * FIRST, 600.0)
    pair = both(Rank(limits=limits, started=False), Rank(limits=limits, started=False))
    assert [pair.end(number) for number in range(2)] == [watchdog.EXIT_CODE] * 2
    assert "VLLM_ASCEND_DP_START_TIMEOUT" in pair.log(0) + pair.log(1)


def test_without_a_first_limit_only_the_start_ends(both: Both) -> None:
    limits = Limits(None, FIRST, None)
    pair = both(Rank(limits=limits), Rank("ahead", limits=limits))
    time.sleep(4 * FIRST)
    pair.go()
    assert [pair.end(number) for number in range(2)] == [0, 0]
    assert pair.log(0) == pair.log(1) == "came\nwent on\n"


def test_a_process_of_the_user_is_never_ended(both: Both) -> None:
    pair = both(Rank(ours=False), Rank("ahead", ours=False))
    assert [pair.end(number) for number in range(2)] == [0, 0]
    for number in range(2):
        assert "given up: " in pair.log(number) and "went on" in pair.log(number)
        assert "ending this process" not in pair.log(number) and len(pair.traces(number)) == 1


@pytest.mark.parametrize("broken", ["disk_hangs", "log_hangs", "pipe_is_full"])
def test_what_hangs_does_not_keep_the_rank(both: Both, broken: str) -> None:
    pair = both(Rank(**{broken: True}), Rank("ahead"))  # type: ignore[arg-type]
    assert pair.end(0) == watchdog.EXIT_CODE
    assert len(pair.traces(0)) == (broken != "disk_hangs")
    assert ("ending this process" in pair.log(0)) == (broken != "log_hangs")
    assert ("does not answer" in pair.log(0)) == (broken == "disk_hangs")


def test_a_full_disk_hides_nothing(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Snapshot, "write", full)
    pair = both(Rank(), Rank("ahead"))
    assert pair.end(0) == watchdog.EXIT_CODE
    assert "no trace file: OSError(28, 'No space left on device')" in pair.log(0)


@pytest.mark.parametrize("disk_hangs", [False, True])
def test_a_failure_is_told_once_with_what_the_others_say(both: Both, disk_hangs: bool) -> None:
    pair = both(Rank(), Rank(fails=True, disk_hangs=disk_hangs))
    assert pair.end(1) == 0
    said = pair.log(1)
    assert "lost the other engines: RuntimeError" in said and "raised" in said
    assert "DP rank 0: " in said and "ending" not in said
    assert len(pair.traces(1)) == (not disk_hangs)
    assert pair.end(0) == watchdog.EXIT_CODE
    assert "DP rank 1 has ended or ends" in pair.log(0) or "the process of DP rank 1 has gone" in pair.log(0)


def test_one_that_is_stopped_leaves_no_thread(keeper: Keeper, tmp_path: Path) -> None:
    """A process may have one engine after another."""
    before = set(threading.enumerate())
    recorder, members = Recorder(4), Members(range(2))
    observer = Observer(0, recorder, (0, 2))
    exchange = Exchange(TCPStore("127.0.0.1", keeper.port, is_master=False), members, 0, LIMITS.period_s)
    who = Identity(rank=0, dp_size=2, world_rank=0, host="node", pid=os.getpid(), build="b" * 64)
    reporter = Reporter(who, recorder, observer, exchange, TraceFiles(tmp_path, choice_of))
    watching = Watchdog(reporter, observer, exchange, LIMITS, ours=False)
    watching.start()
    mine = {thread.name for thread in threading.enumerate() if thread not in before}
    assert {"data-parallel watchdog", "data-parallel beats"} <= mine
    watching.stop()
    until(lambda: set(threading.enumerate()) <= before, threading.enumerate)


@pytest.mark.parametrize(("first", "finding"), [(0, Finding.GONE), (2, Finding.SILENT)])
def test_a_lost_store_proves_nothing_where_no_member_kept_it(first: int, finding: Finding) -> None:
    """Another replica's rank 0 may keep it, and end first."""
    waiting = Watchdog.__new__(Watchdog)
    waiting._exchange = SimpleNamespace(now=None, lost=True, members=Members(range(first, first + 2)))
    verdict = waiting._verdict(None)
    assert verdict.finding is finding
    keeper = "DP rank 0" if first == 0 else "the process that keeps the store"
    assert keeper in verdict.why(waiting._exchange.members)
