# SPDX-License-Identifier: Apache-2.0
"""``torch.npu.NPUGraph``: what ran during a capture is recorded and can run again on the same tensors.

A replay repeats each recorded call on the very tensors it got and copies each result into the tensor it gave then, so
addresses stay fixed as they do on a device. Views need no replay: their memory is refreshed by whatever writes it.

What is one node:
- an aten operation, or an operation of torch_npu (``npu::*``, ``atb::*``): its inside is not looked at, so an
operation that
  reads a group list on the host when it runs reads the current one at each replay;
- a collective, recorded by collectives.py through ``node`` as one call.
The Python custom operations of vLLM (``vllm::*``) are opened, for the kernels they launch are what a device captures.
A read by the host during a capture is an error, as on a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_npu.library import PYTHON_KERNELS

_HOST_READS = frozenset(
    {
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.is_nonzero.default,
        torch.ops.aten.item.default,
    }
)
_OPENED = "vllm"

_recorder: _Recorder | None = None
replaying = False


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@dataclass(frozen=True)
class Node:
    """One recorded call, and the tensors that hold its results (those that are not part of an argument's memory)."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[tuple[int, torch.Tensor], ...]

    def run(self) -> None:
        """Repeats the call and refreshes its results.

        Raises RuntimeError if a result changed its shape: no device could have captured such a call.
        """
        values = _tensors(self.function(*self.args, **self.kwargs))
        for index, held in self.results:
            if values[index].shape != held.shape:
                raise RuntimeError(
                    f"{self.function}: captured with a result of shape {tuple(held.shape)}, replayed with "
                    f"{tuple(values[index].shape)}: its shape depends on data, which a graph cannot capture"
                )
            if values[index].data_ptr() != held.data_ptr():
                held.copy_(values[index])


def _make_node(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Node:
    given = {_storage(tensor) for tensor in _tensors((args, kwargs))}
    results = tuple((i, t) for i, t in enumerate(_tensors(result)) if _storage(t) not in given)
    return Node(function, args, kwargs, results)


def _writes(function: Any) -> bool:
    return any(
        argument.alias_info is not None and argument.alias_info.is_write for argument in function._schema.arguments
    )


class _Recorder(TorchDispatchMode):
    """Appends a node for each operation that reaches the dispatcher."""

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__()
        self._nodes = nodes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _HOST_READS:
            raise RuntimeError(f"{func}: the host reads a device tensor while a graph is being captured")
        if func.namespace == _OPENED and func.name() in PYTHON_KERNELS:
            with self:
                return PYTHON_KERNELS[func.name()](*args, **kwargs)
        result = func(*args, **kwargs)
        made = _make_node(func, args, kwargs, result)
        if made.results or _writes(func):  # else a view
            self._nodes.append(made)
        return result

    def record_call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a Python function as one node."""
        with torch.utils._python_dispatch._disable_current_modes():
            result = function(*args, **kwargs)
        self._nodes.append(_make_node(function, args, kwargs, result))
        return result


def node(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function`; while a graph is being captured, the whole call becomes one node of it."""
    if _recorder is None:
        return function(*args, **kwargs)
    return _recorder.record_call(function, args, kwargs)


def is_current_stream_capturing() -> bool:
    return _recorder is not None


class NPUGraph:
    """A recorded sequence of calls."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._captured = False
        self._mode: _Recorder | None = None

    def capture_begin(self, pool: Any = None, **_: Any) -> None:
        """Raises RuntimeError if a capture is under way or this graph has been captured."""
        global _recorder
        if _recorder is not None or self._captured:
            raise RuntimeError("a graph is being captured already, or this one has been")
        self._mode = _recorder = _Recorder(self._nodes)
        self._mode.__enter__()

    def capture_end(self) -> None:
        global _recorder
        if self._mode is None:
            raise RuntimeError("capture_end without capture_begin")
        self._mode.__exit__(None, None, None)
        self._mode = _recorder = None
        self._captured = True

    def replay(self) -> None:
        """Raises RuntimeError before a capture."""
        global replaying
        if not self._captured:
            raise RuntimeError("replay of a graph that was not captured")
        replaying = True
        try:
            with torch.inference_mode():  # as on a device, nothing of a replay is part of a backward pass
                for recorded in self._nodes:
                    recorded.run()
        finally:
            replaying = False

    def reset(self) -> None:
        self._nodes.clear()
        self._captured = False

    def pool(self) -> tuple[int, int]:
        return graph_pool_handle()

    def __len__(self) -> int:
        return len(self._nodes)


class graph:
    """``with torch.npu.graph(g, pool=...):`` captures the body into `g`."""

    def __init__(self, npu_graph: NPUGraph, pool: Any = None, stream: Any = None, **options: Any) -> None:
        self._graph = npu_graph
        self._pool = pool

    def __enter__(self) -> None:
        self._graph.capture_begin(self._pool)

    def __exit__(self, *exception: object) -> None:
        self._graph.capture_end()


def graph_pool_handle() -> tuple[int, int]:
    return (0, 0)


def graph_task_group_begin(stream: Any) -> None:
    """Marks kernels whose parameters a replay may update; replays here read the current ones anyway."""


def graph_task_group_end(stream: Any) -> int:
    return 0
