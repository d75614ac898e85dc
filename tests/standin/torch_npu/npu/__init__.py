# SPDX-License-Identifier: Apache-2.0
"""``torch.npu``: one CPU-backed device per process. Names and behaviour follow ``torch.cuda``, as torch_npu's do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torch_npu.graph import (
    NPUGraph,
    graph,
    graph_pool_handle,
    graph_task_group_begin,
    graph_task_group_end,
    graph_task_update_begin,
    graph_task_update_end,
    is_current_stream_capturing,
)
from torch_npu.npu import config, memory
from torch_npu.npu.memory import (
    empty_cache,
    max_memory_allocated,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
)
from torch_npu.npu.streams import (
    Event,
    ExternalEvent,
    Stream,
    current_stream,
    default_stream,
    set_stream,
    stream,
    synchronize,
)

__all__ = [
    "Event",
    "ExternalEvent",
    "NPUGraph",
    "Stream",
    "config",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_type",
    "empty_cache",
    "get_device_name",
    "get_soc_version",
    "graph",
    "graph_pool_handle",
    "graph_task_group_begin",
    "graph_task_group_end",
    "graph_task_update_begin",
    "graph_task_update_end",
    "is_available",
    "is_current_stream_capturing",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "serve_accelerator",
    "set_compile_mode",
    "set_device",
    "set_stream",
    "soc_name",
    "stream",
    "synchronize",
]

_current_device = 0

# Values of get_soc_version(), as vllm-ascend's utils read them: 220-225 Atlas A2, 250-255 Atlas A3; 202 is a 310P.
_SOC_NAMES = {202: "Ascend310P3", 223: "Ascend910B4", 253: "Ascend910_9391"}


def get_soc_version() -> int:
    """The chip, from ``STANDIN_SOC`` (default 223, an A2)."""
    return int(os.environ.get("STANDIN_SOC", "223"))


def soc_name() -> str:
    """The name of the chip, as in vllm-ascend's ``_build_info.__soc_version__``."""
    version = get_soc_version()
    if version not in _SOC_NAMES:
        raise ValueError(f"STANDIN_SOC={version}: expected one of {', '.join(map(str, _SOC_NAMES))}")
    return _SOC_NAMES[version]


def device_type() -> str:
    """The family of the chip, as in vllm-ascend's ``_build_info.__device_type__``."""
    name = soc_name()
    return "_310P" if name.startswith("Ascend310P") else "A3" if name.startswith("Ascend910_93") else "A2"


def get_device_name(device: Any = None) -> str:
    return soc_name()


def is_available() -> bool:
    return True


def is_initialized() -> bool:
    return True


def _lazy_init() -> None:
    """Opens the device, which is open."""


def device_count() -> int:
    """As many as any test wants: the devices share one CPU."""
    return 64


def current_device() -> int:
    return _current_device


def set_device(device: Any) -> None:
    """Remembers an index given as an int or "npu:n"; a ``torch.device`` has lost it, and they all share one CPU."""
    global _current_device
    if isinstance(device, int):
        _current_device = device
    elif isinstance(device, str) and ":" in device:
        _current_device = int(device.rsplit(":", 1)[1])


@contextmanager
def device(device: Any) -> Iterator[None]:
    previous = _current_device
    set_device(device)
    try:
        yield
    finally:
        set_device(previous)


def set_compile_mode(jit_compile: bool = False) -> None:
    """Selects between compiled and prebuilt kernels on the device; there are none here."""


def manual_seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(seed)


def serve_accelerator() -> None:
    """Answers ``torch.accelerator`` for this device, as torch does for any that is registered."""
    torch.accelerator.synchronize = synchronize
    torch.accelerator.empty_cache = empty_cache
    torch.accelerator.current_device_index = current_device
