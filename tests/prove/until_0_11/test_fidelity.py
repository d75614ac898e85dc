# SPDX-License-Identifier: Apache-2.0
"""The simulator against what it stands for: upstream's real `_prepare_inputs`.

Runs on either tree; the tree on the import path says which of the simulator's ranks are held against it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import given, settings

from simulation import world
from simulation.checker import simulate
from simulation.schedule import Deployment, Mode, Row, Schedule, Work
from simulation.until_0_11 import batch
from simulation.until_0_11.model import Model, Rows
from simulation.until_0_11.releases import THIS
from simulation.until_0_11.runner import Rank
from simulation.until_0_11.strategies import schedules

PATCHED = importlib.util.find_spec("vllm_ascend.data_parallel") is not None
if PATCHED:
    from simulation.until_0_11.patched import make
else:
    from simulation.until_0_11.pristine import make

Decided = list[tuple[Any, ...]]


def decisions_of_the_simulator(schedule: Schedule) -> dict[int, Decided]:
    """Rows, with_prefill, counts and lm-head rows that each rank's real steps come to."""
    found: dict[int, Decided] = {}

    def forward(self: Rank, model: Any, rows: int, tokens: int, **context: Any) -> None:
        if model.what == "target":
            counts = context["num_tokens_across_dp"]
            decided = (rows, context["with_prefill"], None if counts is None else counts.tolist())
            found.setdefault(self.dp_rank, []).append(decided)

    def gather_logits(self: Rank, needed: int, rows: int) -> None:
        if len(found[self.dp_rank][-1]) == 3:
            found[self.dp_rank][-1] += (rows,)

    with patch.object(Rank, "forward", forward), patch.object(Rank, "gather_logits", gather_logits), silent_models():
        simulate(schedule, make)
    return found


def decisions_of_prepare_inputs(schedule: Schedule) -> dict[int, Decided]:
    """The same from upstream's `_prepare_inputs`."""
    found: dict[int, Decided] = {}

    def make_real(deployment: Deployment, number: int) -> Any:
        rank = make(deployment, number)
        batch.equip(rank)

        def execute(rows: tuple[Row, ...], rejected: int) -> None:
            rank.input_batch = batch.InputBatch(rows)
            prepared = rank._prepare_inputs(batch.scheduler_output(rows), None)
            counts = prepared[4]
            decided = (prepared[3], rank.with_prefill, None if counts is None else counts.tolist(), len(prepared[6]))
            found.setdefault(rank.dp_rank, []).append(decided)

        rank.execute = execute
        return rank

    with silent_models():
        simulate(schedule, make_real)
    return found


@contextmanager
def silent_models() -> Iterator[None]:
    """Models that exchange nothing: steps then meet in their metadata alone."""
    with (
        patch.object(Model, "__call__", lambda *_, **__: Rows(0)),
        patch.object(Model, "compute_logits", lambda _, hidden, *__: hidden),
    ):
        yield


# Where a real step is one method, the simulator calls it.
if not THIS.whole_step:

    @settings(max_examples=150, deadline=None)
    @given(schedules())
    def test_a_simulated_step_decides_what_prepare_inputs_decides(schedule: Schedule) -> None:
        deployment = schedule.deployment
        small = deployment.dp <= 4 and deployment.max_num_batched_tokens <= 1200
        if not small or simulate(schedule, make).findings:
            return  # large ones differ in nothing but time; what ends a schedule early leaves nothing to compare
        real = decisions_of_prepare_inputs(schedule)
        assert real == decisions_of_the_simulator(schedule)
        if PATCHED:  # upstream's ranks may part without any layer's help
            busy = sum(bool(work.rows(deployment)) for works in schedule.steps for work in works)
            assert sum(map(len, real.values())) in (busy, 0), "refused at start, or every real step"


def test_the_tree_on_the_path_is_the_one_that_is_simulated() -> None:
    schedule = Schedule(Deployment(mode=Mode.EAGER), ((Work(), Work()),))
    simulate(schedule, make)
    assert (world.network().calls[0].shape == (1,)) == PATCHED, "one word of all ranks' batches, or a count of each"
    assert Rows(5)[torch.zeros(3)].count == 3
