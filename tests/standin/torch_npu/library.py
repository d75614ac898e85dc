# SPDX-License-Identifier: Apache-2.0
"""Operators: how this package registers its own, and how others register theirs for the NPU.

``npu_op`` gives a function the same schema as torch_npu's operator of that name, so calls by position and by keyword
bind as they do there, and the dispatcher sees one operator, not the torch calls inside it.

A kernel that others register under torch's key for out-of-tree devices (``Library.impl(..., "PrivateUse1")``) is
registered for the CPU instead, and remembered in ``PYTHON_KERNELS`` so that a graph capture can look inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Namespaces of torch itself, which has kernels for the CPU beside those for such devices.
_OF_TORCH = frozenset({"fsdp"})

PYTHON_KERNELS: dict[str, Callable[..., Any]] = {}

_NAMESPACES = ("npu", "atb", "_C_ascend")
_libraries = {namespace: torch.library.Library(namespace, "FRAGMENT") for namespace in _NAMESPACES}
_impl = torch.library.Library.impl

# Wraps each such kernel so that the trace sees inside it; set by trace.py, else None.
on_python_kernel: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None


def npu_op(schema: str, *, reads_data: bool = False, namespace: str = "npu") -> Callable[[Callable[..., Any]], Any]:
    """Registers the decorated function as an operator and returns the operator.

    Args:
        schema: name, arguments and results in torch's schema language.
        reads_data: whether the function looks at values (a length, a group list), so that no meta tensor can run it.
        namespace: "npu", "atb" for the operators of the Ascend Transformer Boost library, or "_C_ascend" for those of
            vllm-ascend's own.
    """

    def register(function: Callable[..., Any]) -> Any:
        name = schema.partition("(")[0]
        library = _libraries[namespace]
        library.define(schema)
        _impl(library, name, function, "CPU" if reads_data else "CompositeExplicitAutograd")
        operator = getattr(getattr(torch.ops, namespace), name).default
        operator.__doc__ = function.__doc__
        return operator

    return register


def define(schema: str, *, namespace: str) -> None:
    """An operator that nothing here computes."""
    _libraries[namespace].define(schema)


def _impl_for_npu(self: torch.library.Library, op_name: Any, fn: Any, dispatch_key: str = "", **kwargs: Any) -> Any:
    if dispatch_key == "PrivateUse1" and self.ns not in _OF_TORCH:
        name = op_name if isinstance(op_name, str) else op_name._schema.name
        PYTHON_KERNELS[name if "::" in name else f"{self.ns}::{name}"] = fn
        dispatch_key = "CPU"
        if on_python_kernel is not None:
            fn = on_python_kernel(fn)
    return _impl(self, op_name, fn, dispatch_key, **kwargs)


def install() -> None:
    torch.library.Library.impl = _impl_for_npu  # type: ignore[method-assign]
