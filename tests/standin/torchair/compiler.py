# SPDX-License-Identifier: Apache-2.0
"""The backend for ``torch.compile`` and its settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch


class CompilerConfig:
    """Settings by name; the groups exist, the values have no effect without a compiler."""

    def __init__(self) -> None:
        self.mode = "max-autotune"
        self.experimental_config = SimpleNamespace()
        self.debug = SimpleNamespace()
        self.export = SimpleNamespace()
        self.ge_config = SimpleNamespace()


class NpuBackend:
    """Given a traced graph, runs it; given to ``torch.compile``, makes it return the callable untraced.

    Operators that read their group lists on the host cannot be traced, and torchair lowers them whole; so the
    callable runs.
    """

    def __init__(self, config: CompilerConfig) -> None:
        self.config = config

    def __call__(self, graph_module: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        return graph_module.forward


def get_npu_backend(*, compiler_config: CompilerConfig | None = None, **_: Any) -> NpuBackend:
    return NpuBackend(compiler_config or CompilerConfig())


def patch_for_hcom() -> None:
    """Makes collectives traceable by torchair; nothing is traced here."""


def _leave_alone(compile_: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compile_)
    def compile(model: Any = None, **kwargs: Any) -> Any:
        if isinstance(kwargs.get("backend"), NpuBackend) and model is not None:
            return model
        return compile_(model, **kwargs)

    return compile


torch.compile = _leave_alone(torch.compile)  # type: ignore[assignment]
