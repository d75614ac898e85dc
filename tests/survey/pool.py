# SPDX-License-Identifier: Apache-2.0
"""Memory that sleeps: what upstream's allocator of sleep mode calls, on the CPU.

The stand-in says that sleep mode was not built, and has no allocator to plug in. Here vllm_ascend's own CaMemAllocator
runs: it is told of every tensor that is made in its pool, as the C extension would tell it, copies what it keeps, and
says what is unmapped. Unmapped memory gets a pattern, so that what reads it without a copy gives wrong tokens, and the
device's free memory grows by it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

_PATTERN = 0xAA  # a small number in each floating-point type, a large negative one in each of integers

Handle = tuple[int, int, int, int]


class _Extension:
    """The functions of vllm_ascend_C; ``told`` is what the allocator wants to be told of a new tensor."""

    def __init__(self) -> None:
        self.told: Callable[[Handle], None] = lambda _handle: None

    def init_module(self, malloc: Callable[[Handle], None], free: Callable[[int], Handle]) -> None:
        del free  # a tensor of the pool is never given back
        self.told = malloc

    def unmap(self, device: int, size: int, address: int, handle: int) -> None:
        del device, handle
        ctypes.memset(address, _PATTERN, size)
        _use(-size)

    def map(self, device: int, size: int, address: int, handle: int) -> None:
        del device, address, handle
        _use(size)


def _use(size: int) -> None:
    from torch_npu.npu import memory

    memory._used += size


class _Allocator:
    """``NPUPluggableAllocator`` for a MemPool."""

    def __init__(self, *_: Any) -> None:
        self._allocator = None


class _Pool:
    """``MemPool``: keeps the memory of what is made in it."""

    def __init__(self, _allocator: Any) -> None:
        self.storages: dict[int, Any] = {}


@contextlib.contextmanager
def _made_in(pool: _Pool, extension: _Extension) -> Iterator[None]:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = {one.untyped_storage().data_ptr() for one in _tensors(tree_leaves((args, kwargs or {})))}
            result = function(*args, **(kwargs or {}))
            for one in _tensors(tree_leaves(result)):
                storage = one.untyped_storage()
                address, size = storage.data_ptr(), storage.nbytes()
                if size and address not in given and address not in pool.storages:
                    pool.storages[address] = storage
                    extension.told((0, size, address, address))
                    _use(size)
            return result

    with Watched():
        yield


def _tensors(values: list[Any]) -> Iterator[Any]:
    import torch

    return (one for one in values if isinstance(one, torch.Tensor) and not one.is_meta)


def install() -> None:
    """Makes sleep mode one that was built; call before an engine is made."""
    import torch
    import vllm_ascend._build_info as build_info
    from vllm_ascend.device_allocator import camem

    build_info.__sleep_mode_enabled__ = True
    extension = _Extension()
    camem.init_module = extension.init_module
    camem.python_create_and_map, camem.python_unmap_and_release = extension.map, extension.unmap
    memory = torch.npu.memory
    memory.NPUPluggableAllocator, memory.MemPool = _Allocator, _Pool
    memory.use_mem_pool = lambda pool: _made_in(pool, extension)
