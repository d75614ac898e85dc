# SPDX-License-Identifier: Apache-2.0
"""The simulator against what it stands for: upstream's real `_prepare_inputs`.

Runs on either tree; the tree on the import path says which of the simulator's ranks are held against it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import given, settings

from simulation import world
from simulation.checker import simulate
from simulation.model import Model, Rows
from simulation.runner import Rank
from simulation.schedule import Deployment, Mode, Row, Schedule, Work
from simulation.strategies import schedules

PATCHED = importlib.util.find_spec("vllm_ascend.data_parallel") is not None
if PATCHED:
    from simulation.patched import make
else:
    from simulation.pristine import make

BLOCK_SIZE, BLOCKS = 16, 8
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
        _equip(rank)

        def execute(rows: tuple[Row, ...], rejected: int) -> None:
            rank.input_batch = _InputBatch(rows)
            prepared = rank._prepare_inputs(_scheduler_output(rows), None)
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


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for what decides nothing."""


class _InputBatch:
    """As much of vLLM's input batch as `_prepare_inputs` reads."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.num_reqs = len(rows)
        self.req_ids = [str(number) for number in range(len(rows))]
        self.req_id_to_index = {name: number for number, name in enumerate(self.req_ids)}
        self.num_prompt_logprobs: dict[str, int] = {}
        self.num_computed_tokens_cpu = np.array([row.computed for row in rows], dtype=np.int32)
        self.token_ids_cpu_tensor = torch.zeros((len(rows), 16384), dtype=torch.int32)
        self.token_ids_cpu = self.token_ids_cpu_tensor.numpy()
        table = torch.zeros((len(rows), 16384 // BLOCK_SIZE), dtype=torch.int32)
        one = SimpleNamespace(get_cpu_tensor=lambda: table, get_device_tensor=lambda: table)
        does_nothing = dict.fromkeys(("commit_block_table", "compute_slot_mapping", "commit_slot_mapping"), _nothing)
        self.block_table = type("Tables", (), {**does_nothing, "__getitem__": lambda *_: one})()
        self.num_computed_tokens_cpu_tensor = torch.from_numpy(self.num_computed_tokens_cpu)
        self.prev_sampled_token_ids = None
        self.num_accepted_tokens_cpu = np.ones(len(rows), dtype=np.int32)


def _scheduler_output(rows: tuple[Row, ...]) -> Any:
    return SimpleNamespace(
        total_num_scheduled_tokens=sum(row.scheduled for row in rows),
        num_scheduled_tokens={str(number): row.scheduled for number, row in enumerate(rows)},
        scheduled_spec_decode_tokens={str(number): [0] * row.drafts for number, row in enumerate(rows) if row.drafts},
    )


def _equip(rank: Any) -> None:
    """What `_prepare_inputs` needs beyond what decides."""
    # Upstream makes its buffers before it settles TorchAir's graphs, which may change the number of requests.
    tokens, requests = rank.max_num_tokens, len(rank.seq_lens_np) + 1
    for name, size in (("positions", tokens), ("slot_mapping", tokens), ("query_start_loc", requests)):
        host = torch.zeros(size, dtype=torch.int64 if name == "positions" else torch.int32)
        setattr(rank, f"{name}_cpu", host)
        setattr(rank, f"{name}_np", host.numpy())
    rank.positions, rank.query_start_loc = torch.zeros(tokens, dtype=torch.int64), torch.zeros(requests)
    rank.seq_lens_cpu, rank.seq_lens = torch.from_numpy(rank.seq_lens_np), torch.zeros(requests - 1)
    rank.input_ids_cpu = torch.zeros(tokens, dtype=torch.int32)
    rank.arange_np = np.arange(16384, dtype=np.int32)
    rank.max_num_blocks_per_req, rank.block_size = 16384 // BLOCK_SIZE, BLOCK_SIZE
    rank._make_attention_mask = _nothing
    rank.need_accepted_tokens = False
    for name in ("num_draft_tokens", "num_accepted_tokens"):
        buffer = SimpleNamespace(np=np.zeros(requests, dtype=np.int32), gpu=None, copy_to_gpu=_nothing)
        setattr(rank, name, buffer)
    rank.attn_metadata_builder = SimpleNamespace(
        reorder_batch=_nothing,
        build=lambda *_: SimpleNamespace(),
        build_torchair_graph_dummy=rank.attn_metadata_builder.build_torchair_graph_dummy,
    )


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
