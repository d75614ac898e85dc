# SPDX-License-Identifier: Apache-2.0
"""How a rank looks at the thread that runs its steps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

from vllm_ascend.data_parallel import recorder as recorder_module
from vllm_ascend.data_parallel.beats import Beat, Collective, Observer, State
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import Phase, Recorder

pytestmark = pytest.mark.shared

PLAN = StepPlan(StepMetadata((1, 1), with_prefill=False, enable_dbo=False, graph_usable=False), 0)
DP = (0, 2)
HOUR = 3600.0
# A group that goes while a thread of gloo's lets go of a tensor would wait for that thread, which waits for Python.
KEPT: list[dist.ProcessGroup] = []


@contextmanager
def running(recorder: Recorder, rank: Callable[[threading.Event], None]) -> Iterator[Observer]:
    """``rank`` on a thread of its own, until the block ends, and one who has looked at it once."""
    done, begun = threading.Event(), threading.Event()

    def run() -> None:
        recorder.thread = threading.get_ident()
        begun.set()
        rank(done)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    begun.wait()
    time.sleep(0.3)
    observer = Observer(0, recorder, DP)
    try:
        observer.look(10.0)
        yield observer
    finally:
        done.set()
        thread.join()


def begin(recorder: Recorder, phase: Phase) -> None:
    recorder.begin("execute_model")
    recorder.issued(LocalBatch(1, False))
    if phase is not Phase.PREPARE:
        recorder.awaiting()
    if phase is Phase.FORWARD:
        recorder.decided(PLAN)


def in_phase(phase: Phase) -> Beat:
    """The second look at a rank that sleeps in a phase."""
    recorder = Recorder(1)

    def rank(done: threading.Event) -> None:
        begin(recorder, phase)
        done.wait()

    with running(recorder, rank) as observer:
        return observer.look(70.0)


def test_a_rank_in_the_metadata_waits_in_them() -> None:
    beat = in_phase(Phase.METADATA)
    assert (beat.state, beat.step, beat.phase) == (State.COLLECTIVE, 1, "METADATA")
    assert beat.collective == Collective("all_reduce", "of the metadata", DP, 1) and beat.decision is None


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.FORWARD])
def test_a_rank_that_does_not_move_elsewhere_in_a_step_waits_for_its_device(phase: Phase) -> None:
    beat = in_phase(phase)
    assert (beat.state, beat.seconds, beat.collective) == (State.DEVICE, 60.0, None)
    assert (beat.decision is not None) == (phase is Phase.FORWARD)


def test_two_ranks_have_the_same_decision_and_another_one_for_another_plan() -> None:
    one, other = in_phase(Phase.FORWARD), in_phase(Phase.FORWARD)
    assert one.decision == other.decision
    recorder = Recorder(1)

    def rank(done: threading.Event) -> None:
        begin(recorder, Phase.METADATA)
        recorder.decided(StepPlan(PLAN.metadata, 0, uniform_size=4))
        done.wait()

    with running(recorder, rank) as observer:
        assert observer.look(70.0).decision != one.decision


def test_a_stack_that_moves_works_and_the_clock_begins_anew() -> None:
    recorder = Recorder(1)

    def rank(done: threading.Event) -> None:
        begin(recorder, Phase.FORWARD)
        while not done.is_set():
            time.sleep(0.01)
            done.wait(0.01)

    with running(recorder, rank) as observer:
        looks = []
        for now in range(20, 60):
            looks.append(observer.look(float(now)))
            time.sleep(0.013)
    assert any(beat.state is State.WORKS and beat.seconds == 0.0 for beat in looks)
    assert all(beat.collective is None for beat in looks)


def test_between_steps_a_rank_works_unless_its_engine_waits_for_a_request() -> None:
    requests: queue.Queue[int] = queue.Queue()

    def run_busy_loop(done: threading.Event) -> None:
        requests.get()
        done.wait()

    with running(Recorder(1), lambda done: done.wait() and None) as observer:
        beat = observer.look(70.0)
        assert (beat.state, beat.phase) == (State.WORKS, None)  # a user's own code, or a call such as add_lora
    with running(Recorder(1), run_busy_loop) as observer:
        assert observer.look(70.0).state is State.IDLE
        requests.put(1)


def test_a_worker_without_an_order_is_idle_however_it_asks_for_one() -> None:
    """vLLM's workers ask again and again; in a call of their engine's they work."""
    orders = MessageQueue(1, 1)
    asked = MessageQueue.create_from_handle(orders.export_handle(), 0)
    called = threading.Event()

    def worker_busy_loop(done: threading.Event) -> None:
        asked.dequeue()
        called.set()
        done.wait()

    with running(Recorder(1), worker_busy_loop) as observer:
        looks = []
        for now in range(11, 61):
            looks.append(observer.look(float(now)))
            time.sleep(0.003)
        assert {beat.state for beat in looks} == {State.IDLE}
        assert looks[-1].seconds == 50.0
        orders.enqueue("add_lora")
        called.wait()
        assert observer.look(61.0).state is State.WORKS
    for one in (orders, asked):
        one.local_socket.context.destroy()


def test_an_hour_without_a_request_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, recorder, requests = [10.0], Recorder(1), queue.Queue[int]()
    monkeypatch.setattr(recorder_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    waits = threading.Event()

    def run_busy_loop(done: threading.Event) -> None:
        requests.get()
        begin(recorder, Phase.METADATA)
        waits.set()
        done.wait()

    with running(recorder, run_busy_loop) as observer:
        clock[0] += HOUR
        idle = observer.look(clock[0])
        assert (idle.state, idle.seconds) == (State.IDLE, HOUR)
        requests.put(1)
        waits.wait()
        beat = observer.look(clock[0] + 0.5)
        assert (beat.state, beat.seconds) == (State.COLLECTIVE, 0.5)


def test_a_collective_is_told_with_its_group_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    recorder = Recorder(1)

    def rank(done: threading.Event) -> None:
        begin(recorder, Phase.FORWARD)
        monkeypatch.setattr(dist.distributed_c10d, "_rank_not_in_group", lambda _: not done.wait())
        dist.all_reduce(torch.zeros(2, 3), group=group)

    try:
        group = dist.new_group([0])
        KEPT.append(group)
        with running(recorder, rank) as observer:
            beat = observer.look(70.0)
    finally:
        dist.destroy_process_group()
    assert (beat.state, beat.seconds) == (State.COLLECTIVE, 60.0)
    assert beat.collective is not None
    assert (beat.collective.op, beat.collective.tensor, beat.collective.step) == ("all_reduce", "float32[2,3]", 0)
    assert beat.collective.ranks is None  # of a group that is not vLLM's the members are not known


def test_the_issue_of_the_metadata_is_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """HCCL makes a communicator within its first collective."""
    from vllm_ascend.data_parallel import synchronizer

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    recorder = Recorder(1)

    def rank(done: threading.Event) -> None:
        begin(recorder, Phase.PREPARE)
        monkeypatch.setattr(dist.distributed_c10d, "_rank_not_in_group", lambda _: not done.wait())
        work = issuer.issue(LocalBatch(1, False)).work
        assert work is not None
        work.wait()

    try:
        group = dist.new_group([0])
        KEPT.append(group)
        issuer = synchronizer.MetadataSynchronizer(0, 2, 8, group, None)
        with running(recorder, rank) as observer:
            beat = observer.look(70.0)
    finally:
        dist.destroy_process_group()
    assert beat.collective == Collective("all_reduce", "of the metadata", DP, 1)


def test_a_process_that_was_stopped_has_not_waited_meanwhile() -> None:
    recorder = Recorder(1)

    def rank(done: threading.Event) -> None:
        begin(recorder, Phase.METADATA)
        done.wait()

    with running(recorder, rank) as observer:
        now = time.monotonic()
        assert observer.look(now + 100.0).seconds > 90.0
        observer.resume(now + 100.0)
        assert observer.look(now + 101.0).seconds == pytest.approx(1.0)
