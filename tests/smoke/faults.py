# SPDX-License-Identifier: Apache-2.0
"""Engine runs in which something goes wrong on one rank, and what the others say."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from engine import Rank
from job import MAX_TOKENS, EngineRun, Round, Tree
from vigil import POLL, STILL_LOOKS_AT_START, Vigil

# So many steps that none is done by itself. One rank is idle.
STEPS = MAX_TOKENS // 2


@dataclass(frozen=True)
class FaultyRun(EngineRun):
    """A run of vLLM's own processes, which may end themselves; a stray lasts so many seconds: see faulted.py."""

    stray_seconds: float = 0.0

    @property
    def script(self) -> str:
        return "faulted"

    def more(self, rank: int, checkpoint: Path) -> dict[str, Any]:
        return super().more(rank, checkpoint) | {"stray_seconds": self.stray_seconds}


@dataclass(frozen=True)
class TensorParallelRun(FaultyRun):
    """Each rank has two workers, in processes of their own."""

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        backend = {"distributed_executor_backend": "mp"}
        return super().engine_arguments(checkpoint, storage) | backend | {"tensor_parallel_size": 2}


@dataclass(frozen=True)
class RayRun(EngineRun):
    """Each rank's worker is an actor of Ray's."""

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        return super().engine_arguments(checkpoint, storage) | {"distributed_executor_backend": "ray"}


DP4 = FaultyRun(Tree.PATCHED, new_tokens=STEPS, rounds=(Round("long", ((0,), (2,), (), (5,))),))
STRAYING = FaultyRun(
    Tree.PATCHED,
    rounds=tuple(Round(strays, ((0,), (2,))) for strays in ("call", "profile", "add_lora", "forward", "stop")),
    stray_seconds=12.0,
)
TP2 = TensorParallelRun(
    Tree.PATCHED, new_tokens=STEPS, rounds=(Round("one prompt", ((0,), ())), Round("long", ((0,), (2,))))
)
RAY = RayRun(Tree.PATCHED, rounds=(Round("one prompt", ((0,), ())), Round("spread", ((0, 2), (1, 3)))))
# What rank 1 does that the other does not, and where it waits then.
DIVERGENCES = {
    "collective": r"all_reduce of float32\[3\] on the group world \(cpu\)",
    "broadcast": r"broadcast of float32\[3\] on the group dp \(device\)",
    "passes": r"all_reduce on the group of the metadata",
}
PRISTINE_DP2 = EngineRun(Tree.PRISTINE, new_tokens=STEPS, rounds=(Round("long", ((0,), (0,))),))
DP1 = EngineRun(Tree.PATCHED, rounds=(Round("never", ((0,),)),))
START_LIMIT = 600.0
_EARLY_STEPS = 5
_POLL = 0.05


@dataclass(frozen=True)
class End:
    """How a rank ended, and after how many seconds."""

    code: int
    seconds: float


def diverging(how: str) -> FaultyRun:
    return FaultyRun(Tree.PATCHED, rounds=(Round(how, ((0,), (2,))),))


def serve(ranks: Sequence[Rank]) -> None:
    """Waits until every rank has done some steps. Raises RuntimeError with the logs where they do not."""
    _until(lambda: all(_steps(rank) >= _EARLY_STEPS for rank in ranks), ranks)


def begins(ranks: Sequence[Rank], name: str) -> None:
    """Waits until every rank is some steps into the round ``name``. Raises RuntimeError where they do not."""

    def begun(rank: Rank) -> bool:
        lines = rank.lines()
        at = next((index for index, line in enumerate(lines) if line.get("round") == name), len(lines))
        return sum("step" in line for line in lines[at:]) >= _EARLY_STEPS

    _until(lambda: all(begun(rank) for rank in ranks), ranks)


def says(rank: Rank, pattern: str, limit: float) -> None:
    """Waits up to ``limit`` seconds until the rank's log has ``pattern``. Raises TimeoutError with the log."""
    if not _within(limit, lambda: re.search(pattern, rank.log()) is not None):
        raise TimeoutError(f"after {limit:g} s no {pattern!r} in:\n{rank.log()[-5000:]}")


def strays(ranks: Sequence[Rank], how: str) -> None:
    """Waits until a rank strays."""
    _until(lambda: any(line.get("strays") == how for rank in ranks for line in rank.lines()), ranks)


def done(ranks: Sequence[Rank]) -> None:
    """Waits until every rank has done all of its rounds. Raises RuntimeError with the logs where they do not."""
    _until(lambda: all(any("done" in line for line in rank.lines()) for rank in ranks), ranks)


def ends(ranks: Sequence[Rank], limit: float) -> list[End | None]:
    """Waits up to ``limit`` seconds for the ranks to end by themselves; None for one that does not."""
    began = time.monotonic()
    found: dict[int, End] = {}

    def all_ended() -> bool:
        for rank in ranks:
            if rank.pid not in found and (code := rank.poll()) is not None:
                found[rank.pid] = End(code, time.monotonic() - began)
        return len(found) == len(ranks)

    _within(limit, all_ended)
    return [found.get(rank.pid) for rank in ranks]


def signalled(rank: Rank, number: signal.Signals) -> Rank:
    os.kill(rank.pid, number)
    return rank


def offspring(ranks: Sequence[Rank]) -> list[psutil.Process]:
    """The processes that the ranks have started."""
    return [child for rank in ranks for child in psutil.Process(rank.pid).children(recursive=True)]


def workers(rank: Rank) -> list[psutil.Process]:
    """The processes in which a rank of several has its model, in their order."""
    found = psutil.Process(rank.pid).children()
    return sorted((one for one in found if "resource_tracker" not in " ".join(one.cmdline())), key=lambda one: one.pid)


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if _runs(one)]


def left(processes: Sequence[psutil.Process], limit: float) -> list[psutil.Process]:
    """Those that still run after ``limit`` seconds."""
    _within(limit, lambda: not alive(processes))
    return alive(processes)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def over(ranks: Sequence[Rank], workers: Sequence[Sequence[psutil.Process]], limit: float) -> None:
    """Waits up to ``limit`` seconds until each rank or all of its workers have ended. Raises TimeoutError."""

    def running() -> list[Sequence[psutil.Process]]:
        return [of for rank, of in zip(ranks, workers, strict=True) if rank.poll() is None and alive(of)]

    if not _within(limit, lambda: not running()):
        raise TimeoutError(f"after {limit:g} s these still run: {running()}")


def trace(folder: Path) -> list[dict[str, Any]]:
    """The lines of the one trace file in ``folder``."""
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def _steps(rank: Rank) -> int:
    return sum("step" in line for line in rank.lines())


def _within(limit: float, holds: Callable[[], bool]) -> bool:
    """Whether ``holds`` comes true within ``limit`` seconds."""
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL)
    return True


def _until(holds: Callable[[], bool], ranks: Sequence[Rank]) -> None:
    vigil = Vigil([rank.pid for rank in ranks], STILL_LOOKS_AT_START)
    while not holds():
        why = vigil.look(sum(rank.signs_of_life() for rank in ranks))
        if why or any(rank.poll() not in (None, 0) for rank in ranks):
            logs = (f"--- rank {i}\n{rank.log()[-3000:]}" for i, rank in enumerate(ranks))
            raise RuntimeError("\n".join((why or "a rank has ended", *logs)))
        time.sleep(POLL)
