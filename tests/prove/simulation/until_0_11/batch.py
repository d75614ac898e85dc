# SPDX-License-Identifier: Apache-2.0
"""A batch as upstream's own `_prepare_inputs` reads it (`_process_reqs` in 0.10.0), and the buffers that it fills."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from simulation.schedule import Row

BLOCK_SIZE = 16
_MAX_TOKENS = 16384
# Shared by all batches: their contents decide nothing. Every request reads the same row of them.
_token_ids = torch.zeros(_MAX_TOKENS, dtype=torch.int32)
_blocks = torch.zeros(_MAX_TOKENS // BLOCK_SIZE, dtype=torch.int32)
_arange = np.arange(_MAX_TOKENS, dtype=np.int32)


def nothing(*_: Any, **__: Any) -> None:
    """Stands for what decides nothing."""


class InputBatch:
    """As much of vLLM's input batch as upstream reads of it."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.num_reqs = len(rows)
        self.req_ids = [str(number) for number in range(len(rows))]
        self.req_id_to_index = {name: number for number, name in enumerate(self.req_ids)}
        self.num_prompt_logprobs: dict[str, int] = {}
        self.num_computed_tokens_cpu = np.array([row.computed for row in rows], dtype=np.int32)
        self.token_ids_cpu_tensor = _token_ids
        self.token_ids_cpu = SimpleNamespace(shape=(len(rows), 0))
        one = SimpleNamespace(get_cpu_tensor=lambda: _blocks, get_device_tensor=lambda: _blocks)
        does_nothing = dict.fromkeys(("commit_block_table", "compute_slot_mapping", "commit_slot_mapping"), nothing)
        self.block_table = type("Tables", (), {**does_nothing, "__getitem__": lambda *_: one})()
        self.num_computed_tokens_cpu_tensor = torch.from_numpy(self.num_computed_tokens_cpu)
        self.prev_sampled_token_ids = None
        self.num_accepted_tokens_cpu = np.ones(len(rows), dtype=np.int32)


def scheduler_output(rows: tuple[Row, ...]) -> Any:
    """What vLLM's scheduler says of the batch."""
    return SimpleNamespace(
        total_num_scheduled_tokens=sum(row.scheduled for row in rows),
        num_scheduled_tokens={str(number): row.scheduled for number, row in enumerate(rows)},
        scheduled_spec_decode_tokens={str(number): [0] * row.drafts for number, row in enumerate(rows) if row.drafts},
    )


def equip(rank: Any) -> None:
    """Gives a rank what a real step fills beyond what decides."""
    # Upstream makes its buffers before it settles TorchAir's graphs, which may change the number of requests.
    tokens, requests = rank.max_num_tokens, len(rank.seq_lens_np) + 1
    for name, size in (("positions", tokens), ("slot_mapping", tokens), ("query_start_loc", requests)):
        host = torch.zeros(size, dtype=torch.int64 if name == "positions" else torch.int32)
        setattr(rank, f"{name}_cpu", host)
        setattr(rank, f"{name}_np", host.numpy())
    rank.positions, rank.query_start_loc = torch.zeros(tokens, dtype=torch.int64), torch.zeros(requests)
    rank.seq_lens_cpu, rank.seq_lens = torch.from_numpy(rank.seq_lens_np), torch.zeros(requests - 1)
    rank.input_ids_cpu = torch.zeros(tokens, dtype=torch.int32)
    rank.arange_np = _arange
    rank.max_num_blocks_per_req, rank.block_size = 0, BLOCK_SIZE
    rank._make_attention_mask = nothing
    rank.need_accepted_tokens = False
    for name in ("num_draft_tokens", "num_accepted_tokens"):
        buffer = SimpleNamespace(np=np.zeros(requests, dtype=np.int32), gpu=None, copy_to_gpu=nothing)
        setattr(rank, name, buffer)
    rank.attn_metadata_builder = SimpleNamespace(
        reorder_batch=nothing,
        build=lambda *_, **__: SimpleNamespace(),
        build_torchair_graph_dummy=rank.attn_metadata_builder.build_torchair_graph_dummy,
    )
