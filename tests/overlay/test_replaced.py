# SPDX-License-Identifier: Apache-2.0
"""A method in place of upstream's, as verl's: asked with what all ranks know, by the forward context itself."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from vllm_ascend.ascend_forward_context import MoECommType
from vllm_ascend.worker import model_runner_v1 as runner_module
from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

from vllm_ascend import ascend_forward_context as module
from vllm_ascend.data_parallel.moe_comm import MoECommConfig
from vllm_ascend.data_parallel.replaced import ask_from_now_on, replaced_choice


class Runner:
    """Upstream's method on a runner with nothing else."""

    _select_moe_comm_method = NPUModelRunner._select_moe_comm_method
    _steps_are_foreign = False

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


def test_upstreams_own_is_asked_where_a_part_of_the_step_is_another_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a step asks by itself, and its ranks without a request must answer alike."""
    asked = []
    monkeypatch.setattr(runner_module, "is_moe_model", asked.append)  # of no experts, and the method answers None
    runner = Runner()
    ask_from_now_on(runner)
    assert replaced_choice(runner.vllm_config, 600, True) is None and not asked
    runner._steps_are_foreign = True
    assert replaced_choice(runner.vllm_config, 600, True) is None and asked == [runner.vllm_config]


class Group:
    """One rank."""

    world_size = 1


@contextlib.contextmanager
def nothing(*_: Any, **__: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("with_prefill", "handed", "chosen"),
    [(False, None, "ALLGATHER"), (True, None, "NAIVE_MULTICAST"), (False, MoECommType.ALLTOALL, "ALLTOALL")],
)
def test_layers_run_what_it_says(
    monkeypatch: pytest.MonkeyPatch, with_prefill: bool, handed: MoECommType | None, chosen: str
) -> None:
    """On 16 ranks of an A2, where upstream's own is MC2; what a caller hands on goes before."""
    context = SimpleNamespace(dp_metadata=None)
    known = {
        "set_forward_context": nothing,
        "get_forward_context": lambda: context,
        "get_tensor_model_parallel_world_size": lambda: 1,
        "get_dp_group": Group,
        "is_moe_model": lambda _: True,
        "enable_sp": lambda _: False,
        "moe_comm_config": lambda *_: MoECommConfig("A2", 16, 256),
    }
    for name, value in known.items():
        monkeypatch.setattr(module, name, value)
    runner = Runner()
    runner.vllm_config.quant_config = None
    for method, expected in ((Runner._select_moe_comm_method, "MC2"), (without_mc2(lambda *_: None), chosen)):
        monkeypatch.setattr(Runner, "_select_moe_comm_method", method)
        ask_from_now_on(runner)
        told = {"with_prefill": with_prefill, "moe_comm_type": handed}
        with module.set_ascend_forward_context(None, runner.vllm_config, num_tokens=8, **told):
            assert context.moe_comm_type.name == (expected if handed is None else chosen)
