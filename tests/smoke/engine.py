# SPDX-License-Identifier: Apache-2.0
"""One engine run: a process for each rank, watched, bounded, and gone afterwards."""

import contextlib
import json
import random
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import steptrace
from fork_server import Launcher, end
from job import LATE_STEPS, EngineRun
from reference import PROMPTS
from vigil import POLL, STILL_LOOKS, STILL_LOOKS_AT_START, Vigil

RANK = Path(__file__).with_name("rank.py")

_PORTS = 10
_PORT_RANGE = (12000, 32000)
_TAIL_LINES = 25

# What gloo says where two ranks meet in different collectives. A connection that its peer closed is
# no such sign: that follows from any failure of the peer.
_MISMATCH_WORDS = ("EnforceNotMet", "preamble.length")


class Outcome(Enum):
    DONE = "done"
    HANG = "hang"
    """Started, then no rank made progress."""
    ABORT = "abort"
    """Started, then the collective library found that the ranks disagree."""
    ERROR = "error"


@dataclass(frozen=True)
class RankReport:
    """What one rank said: its progress lines, its trace events by time, the end of its log."""

    lines: tuple[Mapping[str, Any], ...]
    trace: tuple[Mapping[str, Any], ...]
    log_tail: str
    exit_code: int | None

    def rounds(self) -> dict[str, Mapping[str, Any]]:
        """The closing line of each finished round, by its name."""
        return {line["round"]: line for line in self.lines if "tokens" in line}

    @property
    def begin(self) -> float:
        """When its first round began, by the trace's clock."""
        return next(float(line["begin"]) for line in self.lines if "begin" in line)

    def serving_steps(self) -> list[steptrace.Step]:
        """Its steps since the first round began: those of profiling and capturing are before."""
        return steptrace.steps(self.trace, since=self.begin)

    def forwards(self, name: str) -> list[Mapping[str, Any]]:
        return [line for line in self.lines if line.get("forward") == name]


@dataclass(frozen=True)
class Report:
    run: EngineRun
    outcome: Outcome
    why: str
    ranks: tuple[RankReport, ...]
    seconds: float

    def tokens(self, name: str) -> dict[int, list[int]]:
        """New token ids by prompt index, over all ranks, of the round ``name``."""
        found: dict[int, list[int]] = {}
        for rank in self.ranks:
            if (line := rank.rounds().get(name)) is not None:
                found |= {int(index): ids for index, ids in line["tokens"].items()}
        return found

    def prompt_logprobs(self, name: str) -> dict[int, list[float]]:
        """The logprob of each token of a prompt but its first, by prompt index, of the round ``name``."""
        lines = (rank.rounds().get(name, {}) for rank in self.ranks)
        return {int(index): found for line in lines for index, found in line.get("prompt_logprobs", {}).items()}

    @property
    def ready(self) -> bool:
        """Every rank's engine had started."""
        return all(any("ready" in line for line in rank.lines) for rank in self.ranks)

    def __str__(self) -> str:
        tails = (f"--- rank {i}, exit {r.exit_code}\n{r.log_tail}" for i, r in enumerate(self.ranks))
        head = f"{self.run}: {self.outcome.value}: {self.why} ({self.seconds:.0f} s)"
        return "\n".join((head, *tails))


def finished(report: Report) -> Report:
    """``report`` of an engine run whose every round finished; fails the test where it is not."""
    if report.outcome is not Outcome.DONE:
        pytest.fail(str(report), pytrace=False)
    return report


@dataclass(frozen=True)
class Placement:
    """Where one rank runs: what starts it, and what only its environment has."""

    launcher: Launcher
    environment: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def started_ranks(
    engine_run: EngineRun, checkpoint: Path, work: Path, placements: Sequence[Placement]
) -> Iterator[list["Rank"]]:
    """The started ranks of ``engine_run`` in the empty folder ``work``; none of them runs after the block."""
    shutil.rmtree(work, ignore_errors=True)
    meeting = {
        "VLLM_DP_SIZE": str(engine_run.dp_size),
        "VLLM_DP_MASTER_IP": "127.0.0.1",
        "VLLM_DP_MASTER_PORT": str(first_free_port(_PORTS)),
    }
    meeting |= engine_run.environment
    ranks: list[Rank] = []
    try:
        for rank, placement in enumerate(placements):
            folder = work / f"rank{rank}"
            folder.mkdir(parents=True)
            (folder / "job.json").write_text(json.dumps(_job(engine_run, rank, checkpoint, folder), indent=1))
            own = {**meeting, "VLLM_DP_RANK": str(rank), **placement.environment}
            ranks.append(Rank(folder, placement.launcher, own))
        yield ranks
    finally:
        for one in ranks:
            one.kill()


def run(engine_run: EngineRun, checkpoint: Path, work: Path, launcher: Launcher, traces: Path | None = None) -> Report:
    """Runs ``engine_run`` in the empty folder ``work``; ``traces`` is where the stand-in writes.

    Never raises for what the engine does: that is in the report.
    """
    started = time.monotonic()
    with started_ranks(engine_run, checkpoint, work, [Placement(launcher)] * engine_run.dp_size) as ranks:
        outcome, why = _watch(ranks)
    reports = tuple(one.report(traces) for one in ranks)
    return Report(engine_run, outcome, why, reports, time.monotonic() - started)


class Rank:
    """A running rank process, leader of its own process group."""

    def __init__(self, folder: Path, launcher: Launcher, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.exit_code: int | None = None
        self._launcher = launcher
        self.pid = launcher.start(folder, environment)

    def poll(self) -> int | None:
        if self.exit_code is None:
            self.exit_code = self._launcher.poll(self.pid)
        return self.exit_code

    def lines(self) -> list[dict[str, Any]]:
        return json_lines(self.folder / "progress")

    def signs_of_life(self) -> int:
        """Bytes reported so far: grows with every step."""
        progress = self.folder / "progress"
        return progress.stat().st_size if progress.exists() else 0

    def kill(self) -> None:
        """Ends the whole process group and waits until its leader is gone."""
        end(self._launcher, self.pid)
        self.poll()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def report(self, traces: Path | None) -> RankReport:
        trace = json_lines(traces / f"{self.pid}.jsonl") if traces else []
        tail = "\n".join(self.log().splitlines()[-_TAIL_LINES:])
        return RankReport(tuple(self.lines()), tuple(trace), tail, self.exit_code)


def _watch(ranks: Sequence[Rank]) -> tuple[Outcome, str]:
    """Waits until every rank is done, one has failed, or none makes progress."""
    started = False
    vigil = _vigil(ranks, STILL_LOOKS_AT_START)
    while True:
        time.sleep(POLL)
        codes = [rank.poll() for rank in ranks]
        if all(code == 0 for code in codes):
            return Outcome.DONE, "every round finished"
        if not started and all(any("ready" in line for line in rank.lines()) for rank in ranks):
            started, vigil = True, _vigil(ranks, STILL_LOOKS)
        failed = [f"rank {i} exited with {code}" for i, code in enumerate(codes) if code not in (None, 0)]
        if failed:
            _until_the_others_have_spoken(ranks)
            mismatch = started and any(word in rank.log() for rank in ranks for word in _MISMATCH_WORDS)
            return (Outcome.ABORT if mismatch else Outcome.ERROR), ", ".join(failed)
        if why := vigil.look(_signs_of_life(ranks)):
            return (Outcome.HANG if started else Outcome.ERROR), why if started else f"not started: {why}"


def _until_the_others_have_spoken(ranks: Sequence[Rank]) -> None:
    """Waits until the ranks that are left have failed too, or have nothing to say."""
    vigil = _vigil(ranks, STILL_LOOKS)
    while any(rank.poll() is None for rank in ranks) and not vigil.look(_signs_of_life(ranks)):
        time.sleep(POLL)


def _vigil(ranks: Sequence[Rank], still_looks: int) -> Vigil:
    return Vigil([rank.pid for rank in ranks], still_looks)


def _signs_of_life(ranks: Sequence[Rank]) -> float:
    return float(sum(rank.signs_of_life() for rank in ranks))


def _job(engine_run: EngineRun, rank: int, checkpoint: Path, folder: Path) -> dict[str, Any]:
    return {
        "script": engine_run.script,
        "engine": engine_run.engine_arguments(str(checkpoint), str(folder / "kv")),
        "progress": str(folder / "progress"),
        "new_tokens": engine_run.new_tokens,
        "moe_probe": engine_run.moe_probe,
        "prompt_logprobs": engine_run.prompt_logprobs,
        "late_steps": LATE_STEPS,
        "everyone": [str(folder.with_name(f"rank{other}") / "progress") for other in range(engine_run.dp_size)],
        "rounds": [
            {
                "name": turn.name,
                "prompts": {index: list(PROMPTS[index]) for index in turn.prompts[rank]},
                "late": {index: list(PROMPTS[index]) for index in turn.asked(rank)[len(turn.prompts[rank]) :]},
            }
            for turn in engine_run.rounds
        ],
    } | engine_run.more(rank, checkpoint)


def first_free_port(count: int) -> int:
    """The first of ``count`` free ports in a row: vLLM counts up from the master port, one for each group.

    Below those that a system hands out by itself, or a connection made meanwhile could take one.
    """
    while True:
        port = random.randrange(*_PORT_RANGE, count)
        with contextlib.ExitStack() as held:
            try:
                for one in range(port, port + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", one))
            except (OSError, OverflowError):
                continue
            return port


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of ``file``, one a line, to the first line that a kill has cut off."""
    if not file.exists():
        return []
    lines = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # cut off by the kill
    return lines
