# SPDX-License-Identifier: Apache-2.0
"""vLLM's engine loop: one that was given a request takes part in the step to which the request woke the others."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from vllm.distributed import utils
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched import interface
from vllm.v1.engine import EngineCoreRequest, EngineCoreRequestType, core
from vllm.v1.engine.core import DPEngineCoreProc, EngineCore

from vllm_ascend.data_parallel import engines, start
from vllm_ascend.data_parallel.recorder import NO_RECORDER

WAVE = 3
ABSENT = ("mm_inputs", "mm_hashes", "mm_placeholders", "pooling_params", "eos_token_id", "lora_request", "cache_salt")
ABSENT += ("data_parallel_rank",)


class Asleep(Exception):  # noqa: N818
    """The engine waits for its next request."""


class Steps(Exception):  # noqa: N818
    """The engine runs a step with the others."""


class Queue(queue.Queue[Any]):
    """Says so where the engine would sleep."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if self.empty():
            raise Asleep
        return super().get(block, timeout)


class Scheduler:
    """As far as vLLM's loop asks: a request that was aborted has finished, and is told to the runner once."""

    def __init__(self) -> None:
        self.pause_state = interface.PauseState.UNPAUSED if hasattr(interface, "PauseState") else None
        self.unfinished: list[str] = []
        self.finished: list[str] = []

    def add_request(self, request: Any) -> None:
        self.unfinished.append(request.request_id)

    def finish_requests(self, names: list[str], _status: Any) -> None:
        for name in names:
            self.unfinished.remove(name)
            self.finished.append(name)

    def has_unfinished_requests(self) -> bool:
        return bool(self.unfinished)

    def has_requests(self) -> bool:
        return bool(self.unfinished or self.finished)

    def schedule(self) -> Any:
        self.finished.clear()
        return SimpleNamespace(total_num_scheduled_tokens=len(self.unfinished))

    def get_grammar_bitmask(self, *_: Any) -> None:
        return None

    def update_from_output(self, *_: Any) -> dict[int, Any]:
        return {}

    def get_request_counts(self) -> tuple[int, int]:
        return len(self.unfinished), 0


def step_of_all(*_: Any) -> Any:
    raise Steps


def executed(*_: Any, **__: Any) -> Future[Any]:
    """What later releases wait for, and others hand on."""
    done: Future[Any] = Future()
    done.set_result(SimpleNamespace())
    return done


def _of_later_releases() -> dict[str, Any]:
    if not hasattr(core, "EngineShutdownState"):
        return {}
    return {
        "shutdown_state": core.EngineShutdownState.RUNNING,
        "async_scheduling": False,
        "eep_scaling_state": None,
        "process_input_queue_block": True,
        "aborts_queue": queue.Queue(),
        "_idle_state_callbacks": [],
        "log_error_detail": lambda *_: nullcontext(),
        "log_iteration_details": lambda *_: nullcontext(),
    }


def engine(*requests: tuple[EngineCoreRequestType, Any]) -> Any:
    """An idle engine of two, with a coordinator, that finds these in its queue."""
    made = DPEngineCoreProc.__new__(DPEngineCoreProc)
    found: queue.Queue[Any] = Queue()
    for request in requests:
        found.put(request)
    vars(made).update(
        scheduler=Scheduler(),
        input_queue=found,
        output_queue=queue.Queue(),
        model_executor=SimpleNamespace(execute_model=executed, collective_rpc=lambda *_: [True]),
        execute_model_with_error_logging=lambda call, *args: call(*args),
        step_fn=made.step,
        execute_dummy_batch=step_of_all,
        has_coordinator=True,
        publish_dp_lb_stats=False,
        engines_running=False,
        current_wave=WAVE,
        engine_index=0,
        step_counter=0,
        mm_input_cache_server=None,
        request_block_hasher=None,
        batch_queue=None,
        use_spec_decode=False,
        **_of_later_releases(),
    )
    return made


def added(name: str = "a") -> tuple[EngineCoreRequestType, Any]:
    """As the engine's input thread puts it into the queue; before 0.10.1 it was decoded, and no more."""
    if hasattr(EngineCore, "preprocess_add_request"):
        request = SimpleNamespace(
            request_id=name,
            pooling_params=None,
            kv_transfer_params=None,
            use_structured_output=False,
            abort_immediately=False,
        )
        return EngineCoreRequestType.ADD, (request, WAVE)
    absent: dict[str, Any] = dict.fromkeys(ABSENT)
    sampling = SamplingParams()
    decoded = EngineCoreRequest(
        request_id=name, prompt_token_ids=[1], sampling_params=sampling, arrival_time=0.0, current_wave=WAVE, **absent
    )
    return EngineCoreRequestType.ADD, decoded


ABORT = (EngineCoreRequestType.ABORT, ["a"])


@pytest.fixture
def pristine(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's class without what the overlay adds."""
    monkeypatch.setattr(DPEngineCoreProc, "add_request", DPEngineCoreProc.add_request.__wrapped__)


@pytest.mark.usefixtures("pristine")
def test_pristine_sleeps_after_a_request_that_was_aborted_beside() -> None:
    with pytest.raises(Asleep):
        engine(added(), ABORT).run_busy_loop()


def test_it_takes_part_in_the_step_of_the_others() -> None:
    with pytest.raises(Steps):
        engine(added(), ABORT).run_busy_loop()


@pytest.mark.parametrize("requests", [(), ((EngineCoreRequestType.ABORT, []),)])
def test_an_engine_that_got_no_request_sleeps_on(requests: Any) -> None:
    with pytest.raises(Asleep):
        engine(*requests).run_busy_loop()


def test_without_a_coordinator_nobody_is_woken() -> None:
    alone = engine(added(), ABORT)
    alone.has_coordinator = False
    with pytest.raises(Asleep):
        alone.run_busy_loop()


def met(*_: object) -> Iterator[tuple[str]]:
    yield ("store",)


def joined(*_: object, **__: object) -> tuple[str, str]:
    ((store,),) = utils.rendezvous("tcp://127.0.0.1")
    return "group", store


@pytest.fixture
def unread() -> Iterator[None]:
    """This process has not read its files yet."""
    start.own_files.cache_clear()
    yield
    start.own_files.cache_clear()


@pytest.mark.usefixtures("unread")
def test_files_are_read_as_the_engine_joins_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the first agreement that is watched, which is part of serving."""
    read: list[Path] = []
    monkeypatch.setattr(start, "digests", lambda package: read.append(package) or {})
    monkeypatch.setattr(start, "Exchange", MagicMock())
    monkeypatch.setattr(start, "_watch", MagicMock())
    monkeypatch.setattr(start, "_recorder", NO_RECORDER)
    monkeypatch.setattr(utils, "rendezvous", met)
    monkeypatch.setattr(engines, "_join_engines", joined)
    monkeypatch.setattr(engines, "_watch", None)
    for _ in range(2):
        engines.stateless_init_dp_group(SimpleNamespace(data_parallel_rank=0, data_parallel_size=2))
        assert read == [Path(start.vllm_ascend.__file__).parent]
    assert engines._watch is not None
    engines._watch()
    assert start._watch.called and len(read) == 1


@pytest.mark.timeout(600)  # it imports vLLM anew
def test_every_process_of_vllm_has_it() -> None:
    """An engine whose workers are processes of their own, too, which loads vLLM's plugins and no worker."""
    code = """
from vllm.plugins import load_general_plugins
from vllm.v1.engine.core import DPEngineCoreProc
assert not hasattr(DPEngineCoreProc.add_request, "__wrapped__")
load_general_plugins()
assert hasattr(DPEngineCoreProc.add_request, "__wrapped__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
