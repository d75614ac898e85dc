# SPDX-License-Identifier: Apache-2.0
"""Upstream's allocator of sleep mode on the survey's pool: what it keeps comes back, the rest does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch_npu  # noqa: F401 - the stand-in gives torch.npu
from survey import pool


@pytest.fixture(scope="module")
def allocator() -> Iterator[Any]:
    pool.install()
    from vllm_ascend.device_allocator.camem import CaMemAllocator

    return CaMemAllocator.get_instance()


def test_sleep_takes_the_memory_and_waking_up_gives_the_weights_back(allocator: Any) -> None:
    before = torch.ones(64)
    with allocator.use_memory_pool(tag="weights"):
        weights = torch.arange(64.0)
        # What is made of another tensor is made in the pool as well, and a view is no memory of its own.
        doubled, part = weights * 2, weights[:8]
        weights.to("meta")  # which has no memory
    with allocator.use_memory_pool(tag="kv_cache"):
        cache = torch.full((64,), 7.0)
    free = torch.npu.mem_get_info()[0]

    allocator.sleep(offload_tags=("weights",))
    slept = torch.npu.mem_get_info()[0]
    assert slept - free >= 3 * 64 * 4 - 4096  # a reading takes a page
    assert not torch.equal(weights, torch.arange(64.0))
    assert not torch.equal(doubled, torch.arange(64.0) * 2)
    assert not torch.equal(cache, torch.full((64,), 7.0))
    assert torch.equal(before, torch.ones(64))

    allocator.wake_up()
    assert torch.npu.mem_get_info()[0] < slept
    assert torch.equal(weights, torch.arange(64.0))
    assert torch.equal(doubled, torch.arange(64.0) * 2)
    assert torch.equal(part, torch.arange(8.0))
    assert not torch.equal(cache, torch.full((64,), 7.0))


def test_memory_of_the_pool_is_kept_when_its_tensor_has_gone(allocator: Any) -> None:
    with allocator.use_memory_pool(tag="weights"):
        address = torch.arange(1000.0).data_ptr()
        assert all(torch.arange(1000.0).data_ptr() != address for _ in range(10))
