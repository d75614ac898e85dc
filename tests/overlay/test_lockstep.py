# SPDX-License-Identifier: Apache-2.0
"""Two of vLLM's engines, the first one idle: how far it runs ahead of the second one's steps, and when it takes a
request."""

from __future__ import annotations

import os
import queue
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import FORK, LATEST, until
from vllm.config import ParallelConfig
from vllm.v1.engine.core import DPEngineCoreProc

from vllm_ascend.data_parallel import lockstep
from vllm_ascend.data_parallel.profiling import MoEFamilies
from vllm_ascend.data_parallel.runner import DataParallelStep

STEPS = 40
ASKED_AT = 10
PERIOD = 32
"""Steps between two questions of vLLM's own loop."""


class EndedError(Exception):
    """The second engine has made its steps, or the first one as many."""


def engine(rank: int, port: int, must_agree: bool) -> Any:
    """An engine without a worker, which has no request yet."""
    config = SimpleNamespace(
        data_parallel_master_ip="127.0.0.1",
        get_next_dp_init_port=lambda: port,
        data_parallel_rank=rank,
        data_parallel_size=2,
    )
    made = DPEngineCoreProc.__new__(DPEngineCoreProc)
    worker = SimpleNamespace(model_runner=SimpleNamespace(_must_agree=must_agree))
    vars(made).update(
        dp_rank=rank,
        dp_group=ParallelConfig.stateless_init_dp_group(config),
        model_executor=SimpleNamespace(collective_rpc=lambda ask, *_: [ask(worker)]),
        scheduler=SimpleNamespace(has_requests=lambda: False, has_unfinished_requests=lambda: rank == 1),
        input_queue=queue.Queue(),
        output_queue=queue.Queue(),
        batch_queue=None,
        has_coordinator=True,
        publish_dp_lb_stats=False,
        engines_running=True,
        current_wave=0,
        counter=0,
        step_counter=0,
        execute_dummy_batch=lambda: None,
    )
    return made


def run(rank: int, port: int, must_agree: bool, shared: Any) -> None:
    """Engine ``rank``; ``shared`` has the looks of the first one at its queue, and the steps of the second one."""
    looks, steps, ahead, taken, asked = shared
    made = engine(rank, port, must_agree)

    def look() -> None:
        looks.value += 1
        ahead.value = max(ahead.value, looks.value - steps.value)
        if asked.is_set() and not taken.value:
            taken.value = steps.value
        if looks.value > STEPS:
            raise EndedError

    def step() -> bool:
        steps.value += 1
        if steps.value == ASKED_AT:
            if must_agree:
                until(lambda: looks.value >= PERIOD)
            asked.set()
        if steps.value > STEPS:
            raise EndedError
        return True

    if rank == 0:
        made._process_input_queue, made._process_engine_step = look, lambda: False
    else:
        made._process_input_queue, made._process_engine_step = lambda: None, step
    with pytest.raises((EndedError, RuntimeError)):  # the one that ends last has lost its peer
        made.run_busy_loop()
    os._exit(0)  # gloo's thread may hold the last reference to a tensor, and its end would wait for this thread


@pytest.mark.parametrize(("must_agree", "most_ahead", "taken_by"), [(False, 2, ASKED_AT + 2), (True, STEPS, STEPS + 1)])
def test_an_idle_engine_looks_for_requests_once_a_step(must_agree: bool, most_ahead: int, taken_by: int) -> None:
    """Where workers agree in a step themselves, the loop is vLLM's own: without a worker, here, nothing holds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = (*(FORK.Value("i", 0) for _ in range(4)), FORK.Event())
    processes = [FORK.Process(target=run, args=(rank, port, must_agree, shared), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LATEST)
    assert [process.exitcode for process in processes] == [0, 0]
    _, _, ahead, taken, _ = shared
    assert 0 < ahead.value <= most_ahead
    assert ASKED_AT <= taken.value <= taken_by
    if must_agree:
        assert ahead.value >= PERIOD - ASKED_AT and taken.value > ASKED_AT + 2


def test_workers_are_asked_before_the_loop() -> None:
    """One of several stages may have the layers by which ranks must agree."""
    seen = []
    loop = lockstep.deciding_alone(lambda engine: seen.append(engine.decides_alone))
    for stages in ([False, False], [False, True]):
        loop(SimpleNamespace(collective_rpc=lambda ask, stages=stages: stages))
    assert seen == [True, False]


@pytest.mark.parametrize(
    ("named", "asks"), [(None, True), (["ascend", "ascend_enhanced_model"], True), (["ascend"], False)]
)
def test_without_the_plugin_that_engines_load_ranks_agree_as_in_upstream(
    monkeypatch: pytest.MonkeyPatch, named: list[str] | None, asks: bool
) -> None:
    monkeypatch.setattr(lockstep.envs, "VLLM_PLUGINS", named)
    assert lockstep.engines_ask_each_step() is asks
    runner = DataParallelStep.__new__(DataParallelStep)
    runner.dp_size = 2
    hf_text_config = SimpleNamespace(to_dict=dict)
    runner.vllm_config = SimpleNamespace(model_config=SimpleNamespace(hf_text_config=hf_text_config))
    vars(runner).update(_row_groups=frozenset(), _moe_families=MoEFamilies.of(torch.nn.Linear(1, 1), None))
    assert runner._must_agree is not asks


@pytest.mark.parametrize(("has_coordinator", "pauses_after"), [(True, 1), (False, PERIOD)])
def test_engines_that_nobody_wakes_pause_where_vllms_do(
    monkeypatch: pytest.MonkeyPatch, has_coordinator: bool, pauses_after: int
) -> None:
    """Offline a client gives its engine one request after the other; one ends before the next has come."""
    asked: list[bool] = []
    monkeypatch.setattr(
        ParallelConfig, "has_unfinished_dp", lambda _, unfinished: asked.append(unfinished) or unfinished
    )
    made = DPEngineCoreProc.__new__(DPEngineCoreProc)
    vars(made).update(decides_alone=True, has_coordinator=has_coordinator, dp_group=None, counter=0, step_counter=0)
    steps = 1
    while made._has_global_unfinished_reqs(False):
        assert len(asked) == steps  # after every step, all the same
        steps += 1
    assert steps == pauses_after


def test_a_worker_with_a_runner_of_the_users_leaves_the_loop_as_it_is() -> None:
    assert lockstep.must_agree(SimpleNamespace()) is True
    assert lockstep.must_agree(SimpleNamespace(model_runner=SimpleNamespace())) is True


def test_engines_whose_loop_is_another_programs_do_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that their ranks agree in each step."""
    assert lockstep.engines_ask_each_step()
    monkeypatch.setattr(DPEngineCoreProc, "run_busy_loop", lambda _: None)
    assert not lockstep.engines_ask_each_step()
