# SPDX-License-Identifier: Apache-2.0
"""The ring of steps, the phases, what a rank tells of them, and where a thread is."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoECommChoice, MoECommConfig, select_moe_comm
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import MOST_BYTES, NO_RECORDER, Phase, Recorder, most_steps
from vllm_ascend.data_parallel.stacks import stack_of, stack_of_error
from vllm_ascend.data_parallel.tracefile import Identity, Snapshot

WHO = Identity(rank=1, dp_size=2, world_rank=1, host="node", pid=7, build="b" * 64)


def plan_of(*tokens: int) -> StepPlan:
    return StepPlan(StepMetadata(tokens, with_prefill=False, enable_dbo=False, graph_usable=False), 1)


def choice_of(plan: StepPlan) -> MoECommChoice:
    return select_moe_comm(max(plan.padded_tokens_per_rank), plan.with_prefill, MoECommConfig("A2", 2, 256))


def run_step(recorder: Recorder, tokens: int) -> None:
    assert recorder.begin("execute_model")
    recorder.issued(LocalBatch(tokens, False))
    recorder.awaiting()
    recorder.decided(plan_of(1, tokens))
    recorder.end()


def test_a_step_of_a_method_that_is_not_recorded_ends_where_the_metadata_is_known() -> None:
    """Nobody says when such a method ends: an idle engine would seem to be in its step for ever."""
    recorder = Recorder(3)
    recorder.issued(LocalBatch(2, False))
    recorder.awaiting()
    recorder.decided(plan_of(1, 2))
    assert recorder.entered is None and recorder.current is None
    assert [step.batch.num_tokens for step in recorder.steps()] == [2]


def test_the_ring_keeps_the_last_steps_in_order() -> None:
    recorder = Recorder(3)
    for tokens in range(1, 8):
        run_step(recorder, tokens)
    kept = recorder.steps()
    assert [(step.number, step.batch.num_tokens) for step in kept] == [(5, 5), (6, 6), (7, 7)]
    for step in kept:
        assert step.plan == plan_of(1, step.number)
        assert step.awaited is not None and step.known is not None and step.ended is not None
        assert step.issued <= step.awaited <= step.known <= step.ended


@pytest.mark.parametrize("dp_size", [2, 1024])
def test_the_largest_ring_stays_within_its_memory(dp_size: int) -> None:
    steps = most_steps(1 << 20, dp_size)
    assert steps >= 256
    recorder = Recorder(steps)
    sample = steps // 8
    tracemalloc.start()
    try:
        for number in range(sample):
            assert recorder.begin("execute_model")
            recorder.issued(LocalBatch(1000 + number, False))
            recorder.awaiting()
            recorder.decided(plan_of(*range(1000, 1000 + dp_size)))
            recorder.end()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(recorder.steps()) == sample
    assert used + 8 * sample < MOST_BYTES // 8


def test_as_many_steps_as_are_wanted_where_they_fit() -> None:
    assert [most_steps(256, ranks) for ranks in (2, 1024)] == [256, 256]
    assert most_steps(0, 2) == 0


def test_the_step_in_hand_is_last_and_says_how_far_it_is() -> None:
    recorder = Recorder(3)
    run_step(recorder, 1)
    recorder.begin("_dummy_run")
    assert [step.number for step in recorder.steps()] == [1]
    recorder.issued(LocalBatch(2, True))
    recorder.awaiting()
    last = recorder.steps()[-1]
    assert (last.number, last.what, last.batch, last.plan, last.known) == (
        2,
        "_dummy_run",
        LocalBatch(2, True),
        None,
        None,
    )


def test_a_call_within_a_call_and_one_that_issues_nothing_are_no_steps() -> None:
    recorder = Recorder(3)
    assert recorder.begin("execute_model")
    assert not recorder.begin("_dummy_run")
    recorder.end()
    assert recorder.steps() == [] and recorder.entered is None


def test_without_a_ring_the_phase_is_known_still() -> None:
    recorder = Recorder(0)
    recorder.begin("execute_model")
    assert recorder.entered is not None and recorder.entered.phase is Phase.PREPARE
    recorder.issued(LocalBatch(1, False))
    recorder.awaiting()
    assert recorder.entered.phase is Phase.METADATA
    recorder.end()
    assert recorder.steps() == [] and recorder.entered is None and recorder.number == 1


def test_the_first_step_and_what_is_marked_are_the_start() -> None:
    recorder = Recorder(1)

    def starting() -> bool:
        assert recorder.entered is not None
        return recorder.entered.starting

    recorder.begin("_dummy_run")
    assert starting()
    recorder.end()  # which issued nothing, as where the settings are wrong
    recorder.begin("_dummy_run")
    recorder.issued(LocalBatch(1, False))
    assert starting()
    recorder.end()
    recorder.begin("execute_model")
    assert not starting()
    with recorder.starting():
        recorder.issued(LocalBatch(1, False))
        recorder.awaiting()
        assert starting()
    recorder.decided(plan_of(1, 1))
    assert not starting()
    recorder.end()
    with recorder.engines():
        assert recorder.entered is not None and recorder.entered.phase is Phase.ENGINES and not starting()
    assert recorder.entered is None


def test_a_wait_that_was_given_up_is_not_the_next_one() -> None:
    recorder = Recorder(1)
    recorder.given_up = "all wait"
    recorder.begin("execute_model")
    assert recorder.given_up is None


def test_no_recorder_records_nothing() -> None:
    assert not NO_RECORDER.begin("execute_model")
    NO_RECORDER.issued(LocalBatch(1, False))
    NO_RECORDER.awaiting()
    NO_RECORDER.decided(plan_of(1, 1))
    assert NO_RECORDER.steps() == [] and NO_RECORDER.entered is None


def test_the_text_and_the_file_say_the_same(tmp_path: Path) -> None:
    recorder = Recorder(8)
    run_step(recorder, 3)
    recorder.begin("_dummy_run")
    recorder.issued(LocalBatch(1, False))
    recorder.awaiting()
    snapshot = Snapshot.take(WHO, recorder, "has waited", peers=("DP rank 0: works",))
    text = snapshot.text()
    assert text.startswith("DP rank 1 of 2 on host node, process 7: has waited\n  waits for the other ranks' batches")
    assert "#1 execute_model: 3 tokens (decode) -> [1, 3], waited" in text
    assert text.endswith("#2 _dummy_run: 1 tokens (decode) -> undecided")

    path = snapshot.write(tmp_path, choice_of)
    assert path.stat().st_mode & 0o777 == 0o600
    head, first, second, peers, wait = map(json.loads, path.read_text().splitlines())
    assert (head["kind"], head["format"], head["rank"], head["why"]) == ("rank", 2, 1, "has waited")
    assert first["decision"]["tokens_per_rank"] == [1, 3]
    choice = choice_of(plan_of(1, 3))
    generic, custom = choice.generic.name, choice.custom.name
    assert (first["decision"]["moe_generic"], first["decision"]["moe_custom"]) == (generic, custom)
    assert first["collectives"] == ["all_reduce of the metadata", f"{generic} or {custom} in each MoE layer"]
    assert abs(first["issued"] - time.time()) < 60
    assert second["decision"] is None and second["waited_s"] is None
    assert peers == {"kind": "peers", "said": ["DP rank 0: works"]}
    assert (wait["kind"], wait["step"], wait["phase"]) == ("wait", 2, "metadata")


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    snapshot = Snapshot.take(WHO, Recorder(1), "why")
    snapshot.write(tmp_path, choice_of)
    with pytest.raises(FileExistsError):
        snapshot.write(tmp_path, choice_of)


def test_the_stack_of_a_thread_in_a_collective(tmp_path: Path) -> None:
    """A rank whose peer does not come.

    The rank is told at last that it is not in the group, so that gloo has no work: gloo's thread may hold the last
    reference to the tensor, and waits for the GIL, which the end of the group holds while it waits for that thread.
    """
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    asked, release = threading.Event(), threading.Event()

    def is_outside(_: object) -> bool:
        asked.set()
        return release.wait()

    try:
        group = dist.new_group([0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist.distributed_c10d, "_rank_not_in_group", is_outside)
            patch.setattr(dist.distributed_c10d, "_warn_not_in_group", lambda _: None)
            thread = threading.Thread(target=dist.all_reduce, args=(torch.zeros(2, 3),), kwargs={"group": group})
            thread.start()
            asked.wait()
            stack = stack_of(thread.ident or 0)
            release.set()
            thread.join()
    finally:
        release.set()
        dist.destroy_process_group()
    assert stack is not None
    assert (stack.op, stack.tensor) == ("all_reduce", "float32[2,3]")
    assert stack_of(thread.ident or 0) is None


def test_the_stack_of_an_error_in_a_collective(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        dist.all_gather_into_tensor(torch.zeros(3), torch.zeros(2))
        pytest.fail("gathered into a tensor that is too small")
    except (RuntimeError, ValueError) as error:
        stack = stack_of_error(error)
    finally:
        dist.destroy_process_group()
    assert stack is not None and (stack.op, stack.tensor) == ("all_gather_into_tensor", "float32[2]")
    assert stack_of_error(ValueError("never raised")) is None
