# SPDX-License-Identifier: Apache-2.0
"""The runner that serves is the one that is patched: a worker that is told to take the other runner does not."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FORK
from vllm.v1.worker.worker_base import WorkerBase

from vllm_ascend.data_parallel.runner import DataParallelStep

# What the worker calls on its way that needs a device, a configuration or other ranks.
_OF_ITS_MODULE = (
    "_register_atb_extensions",
    "register_ascend_customop",
    "init_ascend_config",
    "check_ascend_device_type",
    "init_workspace_manager",
    "report_usage_stats",
)


def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker whose configuration asks for the other runner, and that makes one from nothing."""
    with warnings.catch_warnings(action="ignore"):  # torch warns of itself
        from vllm_ascend.worker import worker as module

        from vllm_ascend import logger, ops, utils

    def initialised(self: Any, **given: Any) -> None:
        self.vllm_config, self.rank = given["vllm_config"], 1
        self.model_config, self.cache_config = None, SimpleNamespace(cache_dtype="float32")

    monkeypatch.setattr(WorkerBase, "__init__", initialised)
    for name in _OF_ITS_MODULE:
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(utils, "adapt_patch", lambda: None)
    monkeypatch.setattr(ops, "register_dummy_fusion_op", lambda: None)
    monkeypatch.setattr(logger, "configure_ascend_file_logging", lambda: None)
    compilation = SimpleNamespace(enable_npugraph_ex=False)
    monkeypatch.setattr(module, "get_ascend_config", lambda: SimpleNamespace(ascend_compilation_config=compilation))
    monkeypatch.setattr(module.NPUWorker, "_init_device", lambda _: None)
    monkeypatch.setattr(module.NPUModelRunner, "__init__", lambda *_: None)
    config: Any = SimpleNamespace(use_v2_model_runner=True, model_config=None, profiler_config=None)
    return module.NPUWorker(config, 0, 1, "nowhere")


def take_a_runner(tell: Any) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = worker(monkeypatch)
        made.init_device()
        tell(isinstance(made.model_runner, DataParallelStep))


@pytest.mark.timeout(600)  # it imports the worker
def test_a_worker_takes_the_patched_runner_even_if_told_otherwise() -> None:
    """In a process of its own, since upstream's worker patches vLLM for all of its process."""
    told = FORK.SimpleQueue()
    process = FORK.Process(target=take_a_runner, args=(told.put,))
    process.start()
    process.join()
    assert process.exitcode == 0 and told.get()
