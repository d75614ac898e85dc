# SPDX-License-Identifier: Apache-2.0
"""Import hooks: modules that a build of vllm-ascend would have made, and the places where steps begin."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from torch_npu import release


def _build_info(module: ModuleType) -> None:
    """vllm_ascend/_build_info.py, which upstream's setup.py generates: the chip by name, from 0.13.0 on by family."""
    from torch_npu.npu import device_type, soc_name

    module.__soc_version__ = soc_name()  # type: ignore[attr-defined]
    module.__device_type__ = device_type()  # type: ignore[attr-defined]
    module.__sleep_mode_enabled__ = False  # type: ignore[attr-defined]


def _kernels(_module: ModuleType) -> None:
    """vllm_ascend/vllm_ascend_C.so, whose import registers upstream's own operators."""
    from torch_npu.ops import ascend_c

    ascend_c.register()


class _Built(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves modules that a build makes. It is asked last: a file in a tree wins."""

    def __init__(self, modules: dict[str, Callable[[ModuleType], None]]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self) if name in self._modules else None

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._modules[module.__name__](module)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with each named module once it has been executed."""

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]) -> None:
        self._actions = actions

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        action = self._actions.pop(name, None)
        if action is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _traced(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    from torch_npu import trace

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with trace.step(what):
            return method(*args, **kwargs)

    return call


def _trace_worker(module: ModuleType) -> None:
    from torch_npu import trace

    worker = module.NPUWorker
    init = worker.__init__

    @functools.wraps(init)
    def init_traced(*args: Any, **kwargs: Any) -> None:
        trace.start()
        init(*args, **kwargs)

    worker.__init__ = init_traced
    worker.execute_dummy_batch = _traced(worker.execute_dummy_batch, "execute_dummy_batch")


def _trace_runner(module: ModuleType) -> None:
    runner = module.NPUModelRunner
    runner.execute_model = _traced(runner.execute_model, "execute_model")
    runner._dummy_run = _traced(runner._dummy_run, "dummy_run")


def install(*, traced: bool) -> None:
    built = {"vllm_ascend._build_info": _build_info}
    if release.HAS_KERNELS:
        built["vllm_ascend.vllm_ascend_C"] = _kernels
    sys.meta_path.append(_Built(built))
    if traced:
        workers = dict.fromkeys(("vllm_ascend.worker.worker_v1", "vllm_ascend.worker.worker"), _trace_worker)
        sys.meta_path.insert(0, _AfterImport(workers | {"vllm_ascend.worker.model_runner_v1": _trace_runner}))
