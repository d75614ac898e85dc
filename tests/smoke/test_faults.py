# SPDX-License-Identifier: Apache-2.0
"""A rank that stops, dies or runs something else: the others say so and end, where upstream's wait."""

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faults
import psutil
import pytest
import serving
from checkpoints import Model
from engine import Placement, Rank, started_ranks
from fork_server import ForkServer, Launcher, Spawner
from job import Mode, Tree

from patchset.trace.align import line_up
from patchset.trace.load import load_all

Launchers = Callable[[Tree], Launcher]

DP_SIZE = faults.DP4.dp_size
TIMEOUT = 3.0
END_TIMEOUT = 6.0
# The watchdog's two seconds of grace, and a machine that is busy with more than this.
LATEST = END_TIMEOUT + 2.0 + 60.0
# Within these a patched rank ends on a machine that has nothing else to do.
WAITS_ON = TIMEOUT + 2.0 + 7.0
# vLLM gives its engines five seconds to end before it kills them.
SHUTDOWN = 15.0
# Ranks that share two cores are seconds apart when they start.
FINGERPRINT_TIMEOUT = 20.0
STOPPED = 3
SILENT = f"no word from DP rank {STOPPED}: stopped, or out of reach"
GONE = f"DP rank {STOPPED}: its process has gone or is out of reach"


@pytest.fixture
def model(checkpoint: Callable[[Model], Path]) -> Path:
    return checkpoint(faults.DP4.model)


def _placements(folder: Path, launcher: Launcher, dp_size: int = DP_SIZE, **settings: str) -> list[Placement]:
    """Ranks that each write their trace to a folder of their own."""
    placements = []
    for rank in range(dp_size):
        traces = folder / f"trace{rank}"
        shutil.rmtree(traces, ignore_errors=True)
        traces.mkdir(parents=True)
        own = {"VLLM_ASCEND_DP_TIMEOUT": f"{TIMEOUT:g}", "VLLM_ASCEND_DP_TRACE_DIR": str(traces)}
        placements.append(Placement(launcher, own | settings))
    return placements


def _told(rank: Rank, number: int) -> str:
    """The rank's own report in its log."""
    log = rank.log()
    assert f"DP rank {number} of {DP_SIZE} on host {socket.gethostname()}" in log, log[-3000:]
    return log


def _survivors_end(ranks: Sequence[Rank], fault: signal.Signals, victim: int = STOPPED) -> dict[int, str]:
    """Serves, sends a signal to one rank, and holds the others to an error in time; the report of each of them."""
    faults.serve(ranks)
    survivors = {number: rank for number, rank in enumerate(ranks) if number != victim}
    children = faults.offspring(list(survivors.values()))
    faults.signalled(ranks[victim], fault)
    ends = faults.ends(list(survivors.values()), LATEST + 5.0)
    assert not faults.left(children, SHUTDOWN)
    reports = {}
    for (number, rank), end in zip(survivors.items(), ends, strict=True):
        told = _told(rank, number)
        assert end is not None and end.code != 0, told[-3000:]
        assert end.seconds < LATEST, told[-3000:]
        reports[number] = told
    return reports


@pytest.mark.parametrize("group", ["device", pytest.param("cpu", marks=pytest.mark.shared)])
def test_survivors_of_a_stopped_rank_say_what_they_wait_for_and_end(
    bench: Any, launcher: Launchers, model: Path, group: str
) -> None:
    folder = bench.work / f"stopped-{group}"
    settings = {"VLLM_ASCEND_DP_METADATA_GROUP": group, "VLLM_ASCEND_DP_END_TIMEOUT": f"{END_TIMEOUT:g}"}
    placements = _placements(folder, launcher(Tree.PATCHED), **settings)
    with started_ranks(faults.DP4, model, folder / "run", placements) as ranks:
        for number, told in _survivors_end(ranks, signal.SIGSTOP).items():
            assert "last steps:" in told
            head, *steps, peers, wait = faults.trace(folder / f"trace{number}")
            assert (head["rank"], head["dp_size"]) == (number, DP_SIZE)
            assert all(step["kind"] == "step" for step in steps)
            assert wait["kind"] == "wait" and wait["seconds"] >= END_TIMEOUT - 1.0, wait
            assert any(f"DP rank {STOPPED}: says no more" in said for said in peers["said"])
            assert SILENT in told or "has ended or ends" in told
        assert any(SILENT in rank.log() for rank in ranks[:STOPPED])
        alignment = line_up(load_all(sorted(folder.glob("trace*/*.jsonl"))))
        assert list(alignment.silent) == [STOPPED] and f"no trace of DP rank {STOPPED}" in alignment.verdict


def test_survivors_of_a_killed_rank_end(bench: Any, launcher: Launchers, model: Path) -> None:
    folder = bench.work / "killed"
    with started_ranks(faults.DP4, model, folder / "run", _placements(folder, launcher(Tree.PATCHED))) as ranks:
        for number in _survivors_end(ranks, signal.SIGKILL):
            assert faults.trace(folder / f"trace{number}")[0]["rank"] == number
        # gloo tells each of them when it will; the rank that keeps the store can always be asked.
        assert GONE in ranks[0].log(), ranks[0].log()[-3000:]


@pytest.mark.shared
def test_survivors_of_the_killed_rank_that_keeps_the_store_name_it_and_end(
    bench: Any, launcher: Launchers, model: Path
) -> None:
    folder = bench.work / "killed-keeper"
    with started_ranks(faults.DP4, model, folder / "run", _placements(folder, launcher(Tree.PATCHED))) as ranks:
        for number, told in _survivors_end(ranks, signal.SIGKILL, victim=0).items():
            assert faults.trace(folder / f"trace{number}")[0]["rank"] == number
            named = ("no answer of DP rank 0, which keeps the store", "the process of DP rank 0 has gone")
            assert any(name in told for name in named), told[-3000:]


def test_with_two_workers_a_rank_a_stopped_engine_is_waited_for_and_a_killed_worker_ends_all(
    bench: Any, launcher: Launchers, model: Path, expected: Callable[[Model], dict[int, list[int]]]
) -> None:
    run, folder = faults.TP2, bench.work / "two-workers"
    want = expected(run.model)[0]  # it takes as long as a round
    with started_ranks(run, model, folder / "run", _placements(folder, launcher(Tree.PATCHED), run.dp_size)) as ranks:
        first, long = (turn.name for turn in run.rounds)
        faults.begins(ranks, long)
        (told,) = (line["tokens"] for line in ranks[0].lines() if line.get("round") == first and "tokens" in line)
        assert told["0"][: len(want)] == want

        faults.signalled(ranks[1], signal.SIGSTOP)
        # The other waits for that engine between two steps, or its workers do within one.
        faults.says(ranks[0], r"no word from DP rank 1|world rank 3\)? has no request", LATEST)
        faults.signalled(ranks[1], signal.SIGCONT)
        faults.says(ranks[0], "the wait is over; going on", LATEST)

        workers = [faults.workers(rank) for rank in ranks]
        assert [len(of_rank) for of_rank in workers] == [2, 2], workers
        workers[1][1].kill()
        # The rank's engine may wait on for workers that have ended. Whoever waits for one of them names that one, or
        # their engine: vLLM ends what is left of that rank.
        faults.over(ranks, workers, LATEST)
        named = r"DP rank 1( \(world rank [23]\))?: its process has gone|; ends: one of its workers has ended"
        assert re.search(named, ranks[0].log()), ranks[0].log()[-5000:]


@pytest.mark.shared
def test_a_server_with_a_stopped_engine_ends_with_all_of_its_processes(
    bench: Any, launcher: Launchers, model: Path
) -> None:
    folder = bench.work / "stopped-server"
    settings = {
        "VLLM_ASCEND_DP_TIMEOUT": f"{TIMEOUT:g}",
        "VLLM_ASCEND_DP_END_TIMEOUT": f"{END_TIMEOUT:g}",
        "VLLM_ASCEND_DP_TRACE_DIR": str(bench.work),
    }
    starter = launcher(Tree.PATCHED) if bench.standin else Spawner(serving.SCRIPT, bench.environment(Tree.PATCHED))
    fork = bool(bench.standin)
    with (
        serving.serving(model, Mode.EAGER, DP_SIZE, folder, starter, fork=fork, settings=settings) as server,
        ThreadPoolExecutor(DP_SIZE) as clients,
    ):
        server.ask(0)
        family = psutil.Process(server.pid).children(recursive=True)
        engines = server.engines()
        assert sorted(engines) == list(range(DP_SIZE))
        answers = [clients.submit(server.ask, 0, LATEST + SHUTDOWN, faults.STEPS) for _ in range(DP_SIZE)]
        time.sleep(1.0)
        os.kill(engines[STOPPED], signal.SIGSTOP)
        began = time.monotonic()
        while starter.poll(server.pid) is None and time.monotonic() - began < LATEST + SHUTDOWN:
            time.sleep(0.1)
        log = server.log.read_text()
        assert starter.poll(server.pid) is not None, log[-5000:]
        assert not faults.left(family, SHUTDOWN), log[-5000:]
        assert all(isinstance(answer.exception(), serving.NoAnswerError) for answer in answers)
        assert f"of {DP_SIZE} on host {socket.gethostname()}" in log
        assert "(VLLM_ASCEND_DP_END_TIMEOUT); ending this process" in log


def test_a_rank_that_works_or_is_stopped_for_a_while_is_waited_for(
    bench: Any, launcher: Launchers, model: Path, expected: Callable[[Model], dict[int, list[int]]]
) -> None:
    """A call between two steps, a forward pass and a pause, each of three times the limit: no rank ends, no token is
    another."""
    run = faults.STRAYING
    placements = _placements(
        bench.work / "straying",
        launcher(Tree.PATCHED),
        run.dp_size,
        VLLM_ASCEND_DP_TIMEOUT=f"{run.stray_seconds / 3:g}",
    )
    with started_ranks(run, model, bench.work / "straying" / "run", placements) as ranks:
        faults.strays(ranks, "stop")
        time.sleep(run.stray_seconds)
        faults.signalled(ranks[1], signal.SIGCONT)
        faults.done(ranks)
        log = ranks[0].log()
        assert "DP rank 1 still works" in log and "DP rank 1: works (after step " in log, log[-3000:]
        assert "a rank waits for its device" in log
        assert "no word from DP rank 1: stopped, or out of reach" in log
        want = expected(run.model)
        for turn in run.rounds:
            for number, rank in enumerate(ranks):
                (told,) = [
                    line["tokens"] for line in rank.lines() if line.get("round") == turn.name and "tokens" in line
                ]
                assert told == {str(index): want[index] for index in turn.asked(number)}


@pytest.mark.parametrize("how", faults.DIVERGENCES)
def test_ranks_that_cannot_meet_are_named_with_both_collectives_and_end(
    bench: Any, launcher: Launchers, model: Path, how: str
) -> None:
    run, folder = faults.diverging(how), bench.work / f"diverging-{how}"
    with started_ranks(run, model, folder / "run", _placements(folder, launcher(Tree.PATCHED), run.dp_size)) as ranks:
        faults.strays(ranks, how)
        ends = faults.ends(ranks, LATEST)
        for number, (rank, end) in enumerate(zip(ranks, ends, strict=True)):
            log = rank.log()
            assert end is not None and end.code != 0, log[-3000:]
            assert re.search(
                r"DP rank 0: .*waits in \w+ .*on the group (dp|ep|of the metadata|of vLLM's engines)", log
            ), log[-3000:]
            assert re.search(rf"DP rank 1: .*waits in {faults.DIVERGENCES[how]}", log), log[-3000:]
            assert faults.trace(folder / f"trace{number}")[-1]["kind"] == "wait"
        assert any("no rank can move any more" in rank.log() for rank in ranks)


@pytest.mark.shared
def test_without_the_patches_the_survivor_waits_on(bench: Any, launcher: Launchers, model: Path) -> None:
    placements = [Placement(launcher(Tree.PRISTINE))] * faults.PRISTINE_DP2.dp_size
    with started_ranks(faults.PRISTINE_DP2, model, bench.work / "stopped-pristine", placements) as ranks:
        faults.serve(ranks)
        faults.signalled(ranks[1], signal.SIGSTOP)
        assert faults.ends(ranks[:1], WAITS_ON) == [None]
        assert "waited" not in ranks[0].log()


def test_an_unpatched_rank_is_named_by_every_other(bench: Any, launcher: Launchers, model: Path) -> None:
    folder, limit = bench.work / "unpatched", f"{FINGERPRINT_TIMEOUT:g}"
    limits = {"VLLM_ASCEND_DP_TIMEOUT": limit, "VLLM_ASCEND_DP_START_TIMEOUT": limit}
    placements = _placements(folder, launcher(Tree.PATCHED), **limits)
    placements[1] = Placement(launcher(Tree.PRISTINE))
    with started_ranks(faults.DP4, model, folder / "run", placements) as ranks:
        patched = [ranks[0], *ranks[2:]]
        ends = faults.ends(patched, faults.START_LIMIT)
        wanted = (
            f"DP rank 1 on host {socket.gethostname()} gave no fingerprint within {limit} s: it does "
            "not run this patch set, or has not started"
        )
        for rank, end in zip(patched, ends, strict=True):
            assert end is not None and end.code != 0
            assert wanted in rank.log()
        # It waits in its first collective, until the others have gone.
        assert faults.ends(ranks[1:2], LATEST) != [None]


@pytest.mark.shared
def test_another_file_and_another_setting_are_named_by_every_rank(bench: Any, launcher: Launchers, model: Path) -> None:
    folder = bench.work / "mixed"
    placements = _placements(folder, launcher(Tree.PATCHED), VLLM_ASCEND_DP_TIMEOUT=f"{FINGERPRINT_TIMEOUT:g}")
    edited = bench.edited("vllm_ascend/worker/worker_v1.py", b"# edited\n")
    environment = bench.environment(Tree.PATCHED, edited)
    fork_server = ForkServer([Model.QWEN3_MOE.architecture], environment, bench.work / "fork-server-edited.log")
    placements[1] = Placement(fork_server, placements[1].environment)
    placements[2] = Placement(
        placements[2].launcher, {**placements[2].environment, "VLLM_ASCEND_DP_METADATA_GROUP": "cpu"}
    )
    try:
        with started_ranks(faults.DP4, model, folder / "run", placements) as ranks:
            ends = faults.ends(ranks, faults.START_LIMIT)
            host = socket.gethostname()
            for rank, end in zip(ranks, ends, strict=True):
                log = rank.log()
                assert end is not None and end.code != 0, log
                assert (
                    f"DP rank 1 on host {host} differs from DP rank 0: 1 file of the build: "
                    "vllm_ascend/worker/worker_v1.py" in log
                ), log
                assert (
                    f"DP rank 2 on host {host} differs from DP rank 0: VLLM_ASCEND_DP_METADATA_GROUP is cpu instead "
                    "of device" in log
                ), log
    finally:
        fork_server.close()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("VLLM_ASCEND_DP_TIMEOUT", "0", "a number of seconds above 0, off"),
        ("VLLM_ASCEND_DP_METADATA_GROUP", "gloo", "device, cpu"),
    ],
)
def test_a_bad_setting_is_refused_at_start(
    bench: Any, launcher: Launchers, model: Path, variable: str, value: str, allowed: str
) -> None:
    run = faults.DP1
    placements = [Placement(launcher(Tree.PATCHED), {variable: value})]
    with started_ranks(run, model, bench.work / "setting", placements) as ranks:
        (end,) = faults.ends(ranks, faults.START_LIMIT)
        assert end is not None and end.code != 0
        assert f"{variable}={value!r} is not one of: {allowed}" in ranks[0].log()
