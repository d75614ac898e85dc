# SPDX-License-Identifier: Apache-2.0
"""Two engines in processes without a worker, and what becomes of one that waits for the other between steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from conftest import FORK, LATEST, until
from vllm.config import ParallelConfig
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from vllm_ascend.data_parallel import engines, start, watchdog
from vllm_ascend.data_parallel.recorder import NO_RECORDER

pytestmark = pytest.mark.shared

FIRST, LAST = 2.0, 5.0


class OneWorker(MultiprocExecutor):
    """vLLM's, which looks after ``worker`` alone."""

    def __init__(self, worker: subprocess.Popen[bytes]) -> None:
        self._worker = worker
        super().__init__(MagicMock())

    def _init_executor(self) -> None:
        process = SimpleNamespace(sentinel=os.pidfd_open(self._worker.pid), name="VllmWorker-0", is_alive=lambda: False)
        self.workers = [SimpleNamespace(proc=process, death_writer=None, worker_response_mq=None)]
        self.is_failed, self.failure_callback = False, None
        self.shutdown_event = MagicMock()
        self.start_worker_monitor()


def run(rank: int, port: int, folder: Path, own: bool) -> None:
    """Engine ``rank``: the second one has a worker, and works between two waits until the file "go" is there."""

    def log(text: str, *values: object) -> None:
        with (folder / "log").open("a") as stream:
            stream.write(f"{rank}: {text % values if values else text}\n")

    watchdog.logger = SimpleNamespace(error=log, warning=log)  # type: ignore[assignment]
    if own:
        multiprocessing.current_process().name = f"EngineCore_{rank}"
    start._recorder = NO_RECORDER
    os.environ.update(
        VLLM_ASCEND_DP_TIMEOUT=str(FIRST), VLLM_ASCEND_DP_START_TIMEOUT="600", VLLM_ASCEND_DP_END_TIMEOUT=str(LAST)
    )
    config = SimpleNamespace(
        data_parallel_master_ip="127.0.0.1",
        get_next_dp_init_port=lambda: port,
        data_parallel_rank=rank,
        data_parallel_size=2,
    )
    group = ParallelConfig.stateless_init_dp_group(config)
    worker = subprocess.Popen(["sleep", "3600"]) if rank == 1 else None
    executor = [OneWorker(worker)] if worker else []
    assert ParallelConfig.has_unfinished_dp(group, rank == 1)
    (folder / f"there{rank}").touch()
    while rank == 1 and not (folder / "go").exists():
        time.sleep(0.01)
        if worker and (folder / "kill").exists():
            worker.kill()
    ParallelConfig.has_unfinished_dp(group, False)
    executor.clear()
    log("came")
    time.sleep(1.0)  # a group that ends breaks the other's connection


@dataclass
class Pair:
    folder: Path
    processes: list[BaseProcess]

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text() if file.exists() else ""

    def until(self, holds: Callable[[], bool]) -> None:
        until(holds, self.log)

    def signal(self, number: signal.Signals) -> None:
        """To the second engine."""
        assert self.processes[1].pid is not None
        os.kill(self.processes[1].pid, number)


@pytest.fixture
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = getattr(request, "param", True)
    processes = [FORK.Process(target=run, args=(rank, port, tmp_path, own), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    found = Pair(tmp_path, processes)
    found.until(lambda: all((tmp_path / f"there{rank}").exists() for rank in range(2)))
    yield found
    for process in processes:
        process.kill()
        process.join()


def test_one_that_works_is_named_and_waited_for(pair: Pair) -> None:
    pair.until(lambda: "0: DP rank 0 of 2" in pair.log())
    time.sleep(LAST)
    assert "DP rank 1 still works" in pair.log()
    (pair.folder / "go").touch()
    for process in pair.processes:
        process.join(LATEST)
    assert [process.exitcode for process in pair.processes] == [0, 0], pair.log()
    assert "the wait is over; going on" in pair.log() and "0: came" in pair.log()


def test_one_that_is_stopped_is_named_and_the_other_ends(pair: Pair) -> None:
    pair.signal(signal.SIGSTOP)
    pair.processes[0].join(LATEST)
    assert pair.processes[0].exitcode == watchdog.EXIT_CODE, pair.log()
    assert "no word from DP rank 1: stopped, or out of reach" in pair.log()
    assert "(VLLM_ASCEND_DP_END_TIMEOUT); ending this process" in pair.log()
    assert "waits for the other engines to say whether they have requests" in pair.log()
    assert "trace" not in pair.log()


def test_one_whose_worker_has_ended_is_named_and_the_other_ends(pair: Pair) -> None:
    """Its thread waits for that worker's answer, as if it worked."""
    (pair.folder / "kill").touch()
    pair.processes[0].join(LATEST)
    assert pair.processes[0].exitcode == watchdog.EXIT_CODE, pair.log()
    assert "DP rank 1 has ended or ends; has waited for" in pair.log()
    assert "; ends: one of its workers has ended" in pair.log()


@pytest.mark.parametrize("pair", [False], indirect=True)
def test_a_users_process_is_told_and_goes_on(pair: Pair) -> None:
    pair.signal(signal.SIGSTOP)
    pair.until(lambda: "no word from DP rank 1: stopped, or out of reach; has waited for" in pair.log())
    pair.signal(signal.SIGCONT)
    (pair.folder / "go").touch()
    pair.processes[0].join(LATEST)
    assert pair.processes[0].exitcode == 0, pair.log()
    assert "0: came" in pair.log()


def test_a_process_that_is_a_rank_is_watched_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = object()
    monkeypatch.setattr(start, "_recorder", recorder)
    start.watch_engine(SimpleNamespace(data_parallel_rank=0, data_parallel_size=2), None)  # type: ignore[arg-type]
    assert start.recorder_of_process() is recorder


def test_stores_are_remembered_within_alone() -> None:
    meet = engines.utils.rendezvous
    with engines.stores_met() as stores:
        assert engines.utils.rendezvous is not meet
    assert engines.utils.rendezvous is meet and stores == []
