# SPDX-License-Identifier: Apache-2.0
"""Random cases are drawn however slow the machine is; waits for events, a store that a process of its own keeps, and
tests of modules that a set does not install are left out."""

from __future__ import annotations

import importlib.util
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import pytest
from hypothesis import HealthCheck, settings
from torch.distributed import TCPStore
from vllm.config import ParallelConfig

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

# Test files by a module that they are about, where not every set has it.
_MODULES = {
    "graphs": ("test_runner.py", "test_moe_comm.py", "test_row_groups.py"),
    "graph_sizes": ("test_graph_sizes.py",),
    "input_buffers": ("test_input_buffers.py",),
    "layer_state": ("test_layer_state.py",),
    "lm_head": ("test_lm_head.py",),
    "lockstep": ("test_lockstep.py", "test_foreign.py"),
    "profiling": ("test_profiling.py",),
    "prompt_logits": ("test_prompt_logits.py",),
    "replaced": ("test_replaced.py",),
    "idle_rows": ("test_idle_rows.py", "test_decisions.py"),
}
collect_ignore = [
    file
    for module, files in _MODULES.items()
    for file in files
    if importlib.util.find_spec(f"vllm_ascend.data_parallel.{module}") is None
]
if not hasattr(ParallelConfig, "sync_dp_state"):  # vLLM has it from 0.23 on
    collect_ignore += [
        "test_pauses.py",
        "test_model_runner_v2.py",
        "test_drafters_and_loads.py",
        "test_timed_prefills.py",
    ]
if importlib.util.find_spec("vllm_ascend.data_parallel.prompt_logits") is not None:
    collect_ignore.append("test_refused_prompts.py")  # such a set serves them

FORK = multiprocessing.get_context("fork")
LATEST = 60.0


@dataclass(frozen=True)
class Keeper:
    """The process that keeps a store, and the store's port."""

    process: BaseProcess
    port: int


def until(holds: Callable[[], bool], told: Callable[[], object] = lambda: None) -> None:
    """Wait until ``holds``; after ``LATEST`` seconds the test fails, with what ``told`` says."""
    deadline = time.monotonic() + LATEST
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


def _keep(tell: Callable[[int], None]) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    tell(store.port)
    threading.Event().wait()


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """In a process of its own: a fork of one that keeps a store could not end."""
    ports = FORK.SimpleQueue()
    process = FORK.Process(target=_keep, args=(ports.put,), daemon=True)
    process.start()
    yield Keeper(process, ports.get())
    process.kill()
    process.join()
