# SPDX-License-Identifier: Apache-2.0
"""vLLM's Triton kernels that vllm-ascend 0.23.0 cannot do without: each as one operator, in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_npu.library import npu_op


@npu_op(
    "_standin_slot_mapping(Tensor starts, Tensor positions, Tensor blocks, int block_size, Tensor(a!) slots, "
    "int num_tokens, int ranks, int rank, int interleave, int nowhere) -> ()",
    reads_data=True,
)
def _slot_mapping(
    starts: Tensor,
    positions: Tensor,
    blocks: Tensor,
    block_size: int,
    slots: Tensor,
    num_tokens: int,
    ranks: int,
    rank: int,
    interleave: int,
    nowhere: int,
) -> None:
    """starts [requests + 1], positions [tokens], blocks [>= requests, ..] -> the slot of each token in slots, and
    `nowhere` from num_tokens on. With context parallelism a block has block_size tokens of each rank in turns of
    `interleave`, and those of other ranks are nowhere."""
    rows = torch.repeat_interleave(torch.arange(starts.numel() - 1), starts.diff().long())
    place = positions[: rows.numel()].long()
    block, offset = place // (block_size * ranks), place % (block_size * ranks)
    here = offset // interleave % ranks == rank
    own = offset // (ranks * interleave) * interleave + offset % interleave
    found = torch.where(here, blocks[rows, block].long() * block_size + own, nowhere)
    slots[: rows.numel()] = found.to(slots.dtype)
    slots[num_tokens:] = nowhere


def compute_slot_mapping(
    grid: tuple[int],
    num_tokens: int,
    max_num_tokens: int,
    starts: Tensor,
    positions: Tensor,
    blocks: Tensor,
    _stride: int,
    block_size: int,
    slots: Tensor,
    **settings: int,
) -> None:
    """``vllm.v1.worker.block_table._compute_slot_mapping_kernel``; its grid has a program for each request, and one."""
    _slot_mapping(
        starts[: grid[0]],
        positions,
        blocks,
        block_size,
        slots[:max_num_tokens],
        num_tokens,
        settings["TOTAL_CP_WORLD_SIZE"],
        settings["TOTAL_CP_RANK"],
        settings["CP_KV_CACHE_INTERLEAVE_SIZE"],
        settings["PAD_ID"],
    )


class Launched:
    """A function in the place of a kernel, which is given its grid in brackets and then called."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def call(*arguments: Any, **named: Any) -> None:
            self._function(grid, *arguments, **named)

        return call
