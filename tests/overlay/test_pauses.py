# SPDX-License-Identifier: Apache-2.0
"""Engines that pause together: vLLM's loop sleeps through what comes meanwhile, and resumes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from test_engines import ABORT, Asleep, Steps, added, engine
from vllm.config import ParallelConfig
from vllm.v1.core.sched.interface import PauseState

from vllm_ascend.data_parallel import engines


def paused(*requests: Any) -> Any:
    """An engine that all have agreed to pause."""
    made = engine(*requests)
    made.scheduler.pause_state = PauseState.PAUSED_ALL
    made.pending_pause, made.ignore_start_dp_wave = False, True
    return made


def test_a_request_does_not_run_an_engine_that_is_paused() -> None:
    made = paused(added(), ABORT)
    with pytest.raises(Asleep):
        made.run_busy_loop()
    assert not made.engines_running


def test_it_can_be_resumed_after_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    made = paused()
    made._handle_client_request(*added())
    asked: list[bool] = []

    def unfinished(_: Any, mine: bool) -> bool:
        asked.append(mine)
        return mine

    monkeypatch.setattr(ParallelConfig, "has_unfinished_dp", staticmethod(unfinished))
    made.dp_group = None
    made.scheduler.set_pause_state = lambda state: setattr(made.scheduler, "pause_state", state)
    made.resume_scheduler()
    assert asked == [True] and made.engines_running
    made._handle_client_request(*ABORT)
    with pytest.raises(Steps):
        made.run_busy_loop()


@pytest.mark.parametrize("return_store", [False, True])
def test_engines_watch_each_other_by_the_store_that_they_met_by(
    monkeypatch: pytest.MonkeyPatch, return_store: bool
) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(engines, "_watch", None)
    monkeypatch.setattr(engines, "_join_engines", lambda _, return_store: ("group", "store"))
    monkeypatch.setattr(engines, "watch_engine", lambda *given: seen.append(given))
    config: Any = SimpleNamespace()
    found = engines.stateless_init_dp_group(config, return_store=return_store)
    assert found == (("group", "store") if return_store else "group")
    agree = engines.watched(lambda: "agreed")
    assert not seen, "an engine is watched from its first wait on"
    assert [agree(), agree()] == ["agreed"] * 2
    assert seen == [(config, "store")]
