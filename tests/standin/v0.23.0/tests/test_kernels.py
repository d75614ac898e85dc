# SPDX-License-Identifier: Apache-2.0
"""vLLM's Triton kernels in plain torch."""

import pytest
import torch
from torch_npu import kernels


@pytest.mark.parametrize(
    ("rank", "expected"), [(None, [384, 386, 640, 645, 646]), (0, [384, -1, 640, -1, 642]), (1, [-1, 384, -1, 642, -1])]
)
def test_slots(rank: int | None, expected: list[int]) -> None:
    """A request's slots are in its own blocks; of two ranks in turns each has every second; padding has none."""
    slots = torch.full((8,), 99)
    starts = torch.tensor([0, 2, 5, 7], dtype=torch.int32)  # one more than the requests of this step
    positions = torch.tensor([0, 2, 0, 5, 6] if rank is None else [0, 1, 0, 5, 4])
    blocks = torch.tensor([[3, 4], [5, 6], [7, 8]], dtype=torch.int32)
    kernel = kernels.Launched(kernels.compute_slot_mapping)
    kernel[(3,)](
        *(6, 7, starts, positions, blocks, 2, 128, slots),
        TOTAL_CP_WORLD_SIZE=1 if rank is None else 2,
        TOTAL_CP_RANK=rank or 0,
        CP_KV_CACHE_INTERLEAVE_SIZE=1,
        PAD_ID=-1,
        BLOCK_SIZE=1024,
    )
    assert slots.tolist() == [*expected, 99, -1, 99]
