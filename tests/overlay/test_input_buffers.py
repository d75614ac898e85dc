# SPDX-License-Identifier: Apache-2.0
"""No step fills a buffer of the host that the device still reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

from vllm_ascend.data_parallel import input_buffers
from vllm_ascend.data_parallel.input_buffers import keeps_inputs_in_flight


class Runner:
    """What `_prepare_inputs` has of a runner, and what the device was asked in between."""

    pin_memory = False

    def __init__(self, dp_size: int, *, use_async_scheduling: bool) -> None:
        self.dp_size, self.use_async_scheduling = dp_size, use_async_scheduling
        self.seq_lens_cpu = torch.zeros(4, dtype=torch.int32)
        self.seq_lens_np = self.seq_lens_cpu.numpy()
        self.seen: list[str] = []

    @keeps_inputs_in_flight
    def prepare(self, length: int) -> torch.Tensor:
        self.seen.append(f"fills {length}")
        self.seq_lens_np[:1] = length
        return self.seq_lens_cpu[:1]


@pytest.fixture
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runner:
    dp_size, use_async_scheduling, last_stage = request.param
    made = Runner(dp_size, use_async_scheduling=use_async_scheduling)
    event = SimpleNamespace(
        record=lambda: made.seen.append("records"), synchronize=lambda: made.seen.append("waits for the copies")
    )
    monkeypatch.setattr(torch.npu, "Event", lambda: event)
    monkeypatch.setattr(input_buffers, "get_pp_group", lambda: SimpleNamespace(is_last_rank=last_stage))
    return made


@pytest.mark.parametrize("runner", [(2, True, True), (2, False, False), (3, True, False)], indirect=True)
def test_a_step_waits_for_the_copies_of_the_one_before_and_leaves_its_lengths(runner: Runner) -> None:
    first = runner.prepare(5)
    second = runner.prepare(6)
    assert first.item() == 5 and second.item() == 6  # both are still to be launched
    assert runner.prepare(7).item() == 7
    assert second.item() == 6
    assert runner.seq_lens_np[0] == runner.seq_lens_cpu[0] == 7
    wait, record = "waits for the copies", "records"
    assert runner.seen == ["fills 5", record, wait, "fills 6", record, wait, "fills 7", record]


@pytest.mark.parametrize("runner", [(1, True, True), (1, False, False), (2, False, True)], indirect=True)
def test_nothing_waits_where_a_step_has_read_its_tokens_or_upstream_does_not_either(runner: Runner) -> None:
    buffer = runner.seq_lens_cpu
    runner.prepare(5)
    runner.prepare(6)
    assert runner.seen == ["fills 5", "fills 6"]
    assert runner.seq_lens_cpu is buffer


def test_the_runner_of_this_release_prepares_so() -> None:
    upstreams: Any = NPUModelRunner._prepare_inputs.__wrapped__
    assert upstreams.__name__ == "_prepare_inputs"
    assert upstreams.__code__.co_filename.endswith("model_runner_v1.py")
