# SPDX-License-Identifier: Apache-2.0
"""A method in place of upstream's, as verl's: asked with what all ranks know, by the forward context itself."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
from vllm_ascend.ascend_forward_context import MoECommType
from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

from vllm_ascend.data_parallel.replaced import ask_from_now_on, replaced_choice


class Runner:
    """Upstream's method on a runner with nothing else."""

    _select_moe_comm_method = NPUModelRunner._select_moe_comm_method

    def __init__(self) -> None:
        self.vllm_config = SimpleNamespace()


def without_mc2(method: Any) -> Any:
    """Wrapped as verl does: the name and module stay upstream's."""

    @functools.wraps(method)
    def wrapper(self: Any, num_tokens: int, with_prefill: bool) -> MoECommType:
        self.asked = num_tokens, with_prefill
        return MoECommType.NAIVE_MULTICAST if with_prefill else MoECommType.ALLGATHER

    return wrapper


def test_upstreams_own_method_is_not_asked() -> None:
    runner = Runner()
    ask_from_now_on(runner)
    assert replaced_choice(runner.vllm_config, 8, False) is None
    assert replaced_choice(SimpleNamespace(), 8, False) is None


def test_a_method_in_its_place_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "_select_moe_comm_method", without_mc2(Runner._select_moe_comm_method))
    runner, other = Runner(), Runner()
    ask_from_now_on(runner)
    ask_from_now_on(other)
    assert replaced_choice(runner.vllm_config, 600, True) is MoECommType.NAIVE_MULTICAST
    assert runner.asked == (600, True)
    assert replaced_choice(other.vllm_config, 8, False) is MoECommType.ALLGATHER
    gone = runner.vllm_config
    del runner
    assert replaced_choice(gone, 8, False) is None
