# SPDX-License-Identifier: Apache-2.0
"""The ring of steps, what a rank tells of it, and the watchdog in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from vllm_ascend.data_parallel import watchdog
from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.flight import MOST_BYTES, NO_FLIGHT, Flight, Limit, Phase, most_steps
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoECommChoice, MoECommConfig, select_moe_comm
from vllm_ascend.data_parallel.place import place_of, place_of_error
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.rollcall import RollCall
from vllm_ascend.data_parallel.tracefile import Identity, Snapshot
from vllm_ascend.data_parallel.watchdog import Reporter, Watchdog

WHO = Identity(rank=1, dp_size=2, world_rank=1, host="node", pid=7, build="b" * 64)
LIMIT, START = Limit(60.0, "T"), Limit(1800.0, "S")


def roll_call(limit: float) -> RollCall:
    return RollCall(dist.HashStore(), Members(range(2)), 1, limit)


def plan_of(*tokens: int) -> StepPlan:
    return StepPlan(StepMetadata(tokens, with_prefill=False, enable_dbo=False, graph_usable=False), 1)


def choice_of(plan: StepPlan) -> MoECommChoice:
    return select_moe_comm(max(plan.padded_tokens_per_rank), plan.with_prefill, MoECommConfig("A2", 2, 256))


def run_step(flight: Flight, tokens: int) -> None:
    assert flight.begin("execute_model")
    flight.issued(LocalBatch(tokens, False))
    flight.awaiting()
    flight.decided(plan_of(1, tokens))
    flight.end()


def test_the_ring_keeps_the_last_steps_in_order() -> None:
    flight = Flight(3)
    for tokens in range(1, 8):
        run_step(flight, tokens)
    kept = flight.steps()
    assert [(step.number, step.batch.num_tokens) for step in kept] == [(5, 5), (6, 6), (7, 7)]
    for step in kept:
        assert step.plan == plan_of(1, step.number)
        assert step.awaited is not None and step.known is not None and step.ended is not None
        assert step.issued <= step.awaited <= step.known <= step.ended


@pytest.mark.parametrize("dp_size", [2, 1024])
def test_the_largest_ring_stays_within_its_memory(dp_size: int) -> None:
    steps = most_steps(1 << 20, dp_size)
    assert steps >= 256
    flight = Flight(steps)
    sample = steps // 8
    tracemalloc.start()
    try:
        for number in range(sample):
            assert flight.begin("execute_model")
            flight.issued(LocalBatch(1000 + number, False))
            flight.awaiting()
            flight.decided(plan_of(*range(1000, 1000 + dp_size)))
            flight.end()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(flight.steps()) == sample
    assert used + 8 * sample < MOST_BYTES // 8


def test_as_many_steps_as_are_wanted_where_they_fit() -> None:
    assert [most_steps(256, ranks) for ranks in (2, 1024)] == [256, 256]
    assert most_steps(0, 2) == 0


def test_the_step_in_hand_is_last_and_says_how_far_it_is() -> None:
    flight = Flight(3)
    run_step(flight, 1)
    flight.begin("_dummy_run")
    assert [step.number for step in flight.steps()] == [1]
    flight.issued(LocalBatch(2, True))
    flight.awaiting()
    last = flight.steps()[-1]
    assert (last.number, last.what, last.batch, last.plan, last.known) == (
        2,
        "_dummy_run",
        LocalBatch(2, True),
        None,
        None,
    )


def test_a_call_within_a_call_and_one_that_issues_nothing_are_no_steps() -> None:
    flight = Flight(3)
    assert flight.begin("execute_model")
    assert not flight.begin("_dummy_run")
    flight.end()
    assert flight.steps() == [] and flight.waiting is None


def test_without_a_ring_the_phase_is_known_still() -> None:
    flight = Flight(0, LIMIT)
    flight.begin("execute_model")
    flight.issued(LocalBatch(1, False))
    flight.awaiting()
    assert flight.waiting is not None and flight.waiting.phase is Phase.METADATA
    flight.end()
    assert flight.steps() == []


def test_limits_by_phase() -> None:
    flight = Flight(1, LIMIT, START)
    flight.begin("execute_model")
    flight.issued(LocalBatch(1, False))
    flight.awaiting()
    assert flight.waiting is not None and flight.waiting.limit == LIMIT and flight.metadata_timeout is None
    with flight.patiently():
        flight.decided(plan_of(1, 1))
        assert flight.waiting.limit == START
    flight.end()
    with flight.engines():
        assert flight.waiting.phase is Phase.ENGINES and flight.waiting.limit == LIMIT
    assert flight.waiting is None


def test_a_wait_that_bounds_itself_is_left_alone() -> None:
    flight = Flight(1, LIMIT, START, bounds_itself=True)
    flight.begin("execute_model")
    flight.issued(LocalBatch(1, False))
    flight.awaiting()
    assert flight.waiting is not None and flight.waiting.limit is None
    assert flight.metadata_timeout == timedelta(seconds=60)
    flight.decided(plan_of(1, 1))
    assert flight.waiting.limit == LIMIT


def test_no_flight_records_nothing() -> None:
    assert not NO_FLIGHT.begin("execute_model")
    NO_FLIGHT.issued(LocalBatch(1, False))
    NO_FLIGHT.awaiting()
    NO_FLIGHT.decided(plan_of(1, 1))
    assert NO_FLIGHT.steps() == [] and NO_FLIGHT.waiting is None


def test_the_text_and_the_file_say_the_same(tmp_path: Path) -> None:
    flight = Flight(8, LIMIT)
    run_step(flight, 3)
    flight.begin("_dummy_run")
    flight.issued(LocalBatch(1, False))
    flight.awaiting()
    snapshot = Snapshot.take(WHO, flight, "has waited")
    text = snapshot.text()
    assert text.startswith("DP rank 1 of 2 on host node, process 7: has waited\n  waits for the other ranks' batches")
    assert "#1 execute_model: 3 tokens (decode) -> [1, 3], waited" in text
    assert text.endswith("#2 _dummy_run: 1 tokens (decode) -> undecided")

    path = snapshot.write(tmp_path, choice_of)
    assert path.stat().st_mode & 0o777 == 0o600
    head, first, second, wait = map(json.loads, path.read_text().splitlines())
    assert (head["kind"], head["format"], head["rank"], head["why"]) == ("rank", 1, 1, "has waited")
    assert first["decision"]["tokens_per_rank"] == [1, 3]
    assert first["decision"]["moe_generic"] == "ALL_GATHER" and first["decision"]["moe_custom"] == "ALL_TO_ALL"
    assert first["collectives"] == ["all_reduce of the metadata", "ALL_GATHER or ALL_TO_ALL in each MoE layer"]
    assert abs(first["issued"] - time.time()) < 60
    assert second["decision"] is None and second["waited_s"] is None
    assert (wait["kind"], wait["step"], wait["phase"]) == ("wait", 2, "metadata")


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    snapshot = Snapshot.take(WHO, Flight(1), "why")
    snapshot.write(tmp_path, choice_of)
    with pytest.raises(FileExistsError):
        snapshot.write(tmp_path, choice_of)


def test_a_folder_that_has_gone_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(watchdog.logger, "error", lambda *told: said.append(told))
    Reporter(WHO, Flight(1), roll_call(0.1), tmp_path / "gone", choice_of).report("has waited")
    ((text,), (*_, trace)) = said
    assert "has waited" in text and trace.startswith("no trace file: FileNotFoundError")


def test_the_place_of_a_thread_in_a_collective(tmp_path: Path) -> None:
    """A rank whose peer does not come."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    release = threading.Event()
    try:
        group = dist.new_group([0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist.distributed_c10d, "_rank_not_in_group", lambda _: release.wait(10.0) and False)
            thread = threading.Thread(target=dist.all_reduce, args=(torch.zeros(2, 3),), kwargs={"group": group})
            thread.start()
            time.sleep(0.2)
            place = place_of(thread.ident or 0)
            release.set()
            thread.join()
    finally:
        dist.destroy_process_group()
    assert place is not None
    assert (place.op, place.tensor) == ("all_reduce", "float32[2,3]")
    assert place_of(thread.ident or 0) is None


def test_the_place_of_an_error_in_a_collective(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        dist.all_gather_into_tensor(torch.zeros(3), torch.zeros(2))
        pytest.fail("gathered into a tensor that is too small")
    except (RuntimeError, ValueError) as error:
        place = place_of_error(error)
    finally:
        dist.destroy_process_group()
    assert place is not None and (place.op, place.tensor) == ("all_gather_into_tensor", "float32[2]")
    assert place_of_error(ValueError("never raised")) is None


class Log:
    """A logger whose lines outlive the process."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def error(self, text: str, *values: object) -> None:
        with self._file.open("a") as stream:
            stream.write((text % values if values else text) + "\n")


def rank_under_watch(folder: Path, comes: bool, disk_hangs: bool) -> None:
    """A rank's process; its peer comes within the grace, or never."""
    watchdog.logger = Log(folder / "log")
    if disk_hangs:
        Snapshot.write = lambda *_: time.sleep(60.0)  # type: ignore[assignment, method-assign]
    watchdog.GRACE_S = 1.0
    flight = Flight(4, Limit(0.5, "VLLM_ASCEND_DP_TIMEOUT"))
    Watchdog(Reporter(WHO, flight, roll_call(watchdog.GRACE_S), folder, choice_of)).start()
    run_step(flight, 3)
    time.sleep(0.8)  # between steps nothing is waited for
    assert not list(folder.glob("*.jsonl"))
    flight.begin("execute_model")
    flight.issued(LocalBatch(1, False))
    flight.awaiting()
    while not (comes and list(folder.glob("*.jsonl"))):
        time.sleep(0.02)
    flight.end()
    time.sleep(3.0)
    watchdog.logger.error("came back")


def rank_that_fails(folder: Path, disk_hangs: bool) -> None:
    """A rank's process that loses the others before its limit, and tells of it until after."""
    watchdog.logger = Log(folder / "log")
    if disk_hangs:
        Snapshot.write = lambda *_: time.sleep(60.0)  # type: ignore[assignment, method-assign]
    watchdog.GRACE_S = 1.0
    flight = Flight(4, Limit(0.5, "VLLM_ASCEND_DP_TIMEOUT"))
    reporter = Reporter(WHO, flight, roll_call(2.0), folder, choice_of)  # which takes a second to answer
    flight.on_failure = reporter.report
    Watchdog(reporter).start()
    try:
        with flight.engines():
            raise RuntimeError("Connection reset by peer")
    except RuntimeError:
        time.sleep(1.0)
        watchdog.logger.error("raised")


def under_watch(folder: Path, *, comes: bool = False, disk_hangs: bool = False) -> tuple[int | None, str]:
    """Exit code and log of a rank that waits."""
    return ended(folder, rank_under_watch, comes, disk_hangs)


def ended(folder: Path, rank: Callable[..., None], *args: bool) -> tuple[int | None, str]:
    """Exit code and log of a rank's process."""
    (folder / "log").touch()
    process = multiprocessing.get_context("fork").Process(target=rank, args=(folder, *args))
    process.start()
    process.join(30.0)
    process.kill()
    return process.exitcode, (folder / "log").read_text()


def test_the_watchdog_ends_a_rank_that_waits_too_long(tmp_path: Path) -> None:
    code, said = under_watch(tmp_path)
    assert code == watchdog.EXIT_CODE, said
    assert "has waited for 0.5 s (VLLM_ASCEND_DP_TIMEOUT); ending this process" in said
    assert "DP rank 1: step 2, waits for the other ranks' batches: has waited for 0.5 s" in said
    assert "no word from DP rank 0 on host unknown" in said and "came back" not in said
    (file,) = tmp_path.glob("*.jsonl")
    assert json.loads(file.read_text().splitlines()[-1])["phase"] == "metadata"


def test_a_disk_that_hangs_does_not_keep_the_rank(tmp_path: Path) -> None:
    code, said = under_watch(tmp_path, disk_hangs=True)
    assert code == watchdog.EXIT_CODE
    assert "has waited for 0.5 s" in said and "trace:" not in said


def test_the_watchdog_lets_a_rank_go_on_whose_wait_ends_in_the_grace(tmp_path: Path) -> None:
    code, said = under_watch(tmp_path, comes=True)
    assert code == 0, said
    assert "the wait is over after all; going on" in said and "came back" in said


def test_a_failure_that_is_being_told_is_told_once(tmp_path: Path) -> None:
    code, said = ended(tmp_path, rank_that_fails, False)
    assert code == 0 and "raised" in said, said
    assert "lost the other engines: RuntimeError" in said
    assert "has waited" not in said and "going on" not in said
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_disk_that_hangs_does_not_keep_a_rank_that_fails(tmp_path: Path) -> None:
    code, said = ended(tmp_path, rank_that_fails, True)
    assert code == watchdog.EXIT_CODE
    assert "lost the other engines" in said and "raised" not in said


def test_a_watchdog_is_a_daemon(tmp_path: Path) -> None:
    Watchdog(Reporter(WHO, Flight(1), roll_call(1.0), tmp_path, choice_of)).start()
    (thread,) = [one for one in threading.enumerate() if one.name == "data-parallel watchdog"]
    assert thread.daemon
