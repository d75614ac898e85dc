# SPDX-License-Identifier: Apache-2.0
"""``torch.npu`` memory figures: a fixed pretended device, so that a KV cache has the same size on every machine.

vLLM's worker measures free memory before and after a profiling run and requires it to have fallen; each reading of
``mem_get_info`` therefore takes one page more.
"""

from __future__ import annotations

from typing import Any

TOTAL = 2 << 30
_PAGE = 4096

_used = 0


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) in bytes."""
    global _used
    _used += _PAGE
    return TOTAL - _used, TOTAL


def memory_stats(device: Any = None) -> dict[str, int]:
    return {"allocated_bytes.all.peak": _used, "allocated_bytes.all.current": _used}


def memory_allocated(device: Any = None) -> int:
    return _used


def max_memory_allocated(device: Any = None) -> int:
    return _used


def memory_reserved(device: Any = None) -> int:
    return _used


def reset_peak_memory_stats(device: Any = None) -> None:
    """The peak is the current use already."""


def empty_cache() -> None:
    """There is no caching allocator."""


class NPUPluggableAllocator:
    """Sleep mode plugs a native allocator in; a CPU process has none to plug it into."""

    def __init__(self, *args: Any) -> None:
        raise NotImplementedError("the CPU stand-in has no pluggable allocator (sleep mode needs an NPU)")
