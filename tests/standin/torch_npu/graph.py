# SPDX-License-Identifier: Apache-2.0
"""``torch.npu.NPUGraph``: what ran during a capture is recorded and can run again on the same tensors.

A replay repeats each recorded call on the very tensors it got and copies each result into the tensor it gave then, so
addresses stay fixed as they do on a device. Views need no replay: their memory is refreshed by whatever writes it. Nor
do allocations: what a layer leaves unwritten, such as attention its rows of padding, keeps what was there.

What is one node:
- an aten operation, or an operation of torch_npu (``npu::*``, ``atb::*``): its inside is not looked at, so an
operation that
  reads a group list on the host when it runs reads the current one at each replay;
- a collective, recorded by collectives.py through ``node`` as one call; one that Dynamo has made functional
(``_c10d_functional::*``) is waited for at once, because before that it has no result to copy.
The Python custom operations of vLLM (``vllm::*``) are opened, for the kernels they launch are what a device captures.
A read of device memory by the host during a capture is an error, as on a device. What the capture itself has made is
device memory; of other tensors only a trace knows where they are, and without one they count as the host's.

A graph may wait for an event of the outside (``ExternalEvent``), and the host may give the calls of a task group other
arguments before it records that event. A replay stops at such a wait and goes on where the event is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._ops import HigherOrderOperator
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
# No kernel: the memory is given at capture, and has at a replay what was last written there.
_ALLOCATIONS = frozenset(
    {
        torch.ops.aten.empty.memory_format,
        torch.ops.aten.empty_like.default,
        torch.ops.aten.empty_strided.default,
        torch.ops.aten.new_empty.default,
        torch.ops.aten.new_empty_strided.default,
    }
)
_OPENED = "vllm"
_KERNELS = frozenset({"npu", "atb"})
_ASYNCHRONOUS = "_c10d_functional"

# Whether a tensor that no node has made is in the host's memory; set by trace.py, which marks those of the device.
is_on_host: Callable[[torch.Tensor], bool] | None = None

_recorder: _Recorder | None = None
replaying = False


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@dataclass
class Node:
    """One recorded call, and the tensors that hold its results (those that are not part of an argument's memory).

    The host may give it other arguments between two replays: see ``graph_task_update_begin``.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[tuple[int, torch.Tensor], ...]

    def run(self) -> None:
        """Repeats the call and refreshes its results.

        Raises RuntimeError if a result changed its shape: no device could have captured such a call.
        """
        values = _tensors(self.function(*self.args, **self.kwargs))
        if getattr(self.function, "namespace", "") == _ASYNCHRONOUS:
            values = [torch.ops._c10d_functional.wait_tensor(value) for value in values]
        for index, held in self.results:
            if values[index].shape != held.shape:
                raise RuntimeError(
                    f"{self.function}: captured with a result of shape {tuple(held.shape)}, replayed with "
                    f"{tuple(values[index].shape)}: its shape depends on data, which a graph cannot capture"
                )
            if values[index].data_ptr() != held.data_ptr():
                held.copy_(values[index])


@dataclass(frozen=True)
class Wait:
    """A place where a replay stops until an event has been recorded."""

    event: Any


@dataclass(frozen=True)
class Reset:
    """Makes an event one that has not been recorded."""

    event: Any


def _make_node(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Node:
    given = {_storage(tensor) for tensor in _tensors((args, kwargs))}
    results = tuple((i, t) for i, t in enumerate(_tensors(result)) if _storage(t) not in given)
    return Node(function, args, kwargs, results)


def _writes(function: Any) -> bool:
    return any(
        argument.alias_info is not None and argument.alias_info.is_write for argument in function._schema.arguments
    )


def _opened(operator: HigherOrderOperator) -> Callable[..., Any]:
    """What an operator on operators calls: a compiled graph has the one that stands for a call that writes."""
    from torch._higher_order_ops import auto_functionalize

    if operator is not auto_functionalize.auto_functionalized_v2:
        raise NotImplementedError(f"{operator} in a graph that is being captured")
    return auto_functionalize.auto_functionalized_v2_dense


class _Recorder(TorchDispatchMode):
    """Appends a node for each operation that reaches the dispatcher."""

    supports_higher_order_operators = True

    def __init__(self, nodes: list[Node | Wait | Reset]) -> None:
        super().__init__()
        self._nodes = nodes
        self._made: set[int] = set()
        self.group: TaskGroup | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            with self:
                return _opened(func)(*args, **kwargs)
        if func in _HOST_READS and not all(self._is_on_host(tensor) for tensor in _tensors(args)):
            raise RuntimeError(f"{func}: the host reads a device tensor while a graph is being captured")
        if func.namespace == _OPENED and func.name() in PYTHON_KERNELS:
            with self:
                return PYTHON_KERNELS[func.name()](*args, **kwargs)
        result = func(*args, **kwargs)
        made = _make_node(func, args, kwargs, result)
        if func in _ALLOCATIONS:
            self._note(made)
        elif made.results or _writes(func):  # else a view
            self._append(made)
            if self.group is not None and func.namespace in _KERNELS:
                self.group.nodes.append(made)
        return result

    def _append(self, made: Node) -> None:
        self._nodes.append(made)
        self._note(made)

    def _note(self, made: Node) -> None:
        """Its results are of the device."""
        self._made.update(_storage(tensor) for _, tensor in made.results)

    def _is_on_host(self, tensor: torch.Tensor) -> bool:
        return _storage(tensor) not in self._made and (is_on_host is None or is_on_host(tensor))

    def record_event(self, node: Wait | Reset) -> None:
        """Adds what is neither computed nor communicated."""
        self._nodes.append(node)

    def record_call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a Python function as one node."""
        with torch.utils._python_dispatch._disable_current_modes():
            result = function(*args, **kwargs)
        made = _make_node(function, args, kwargs, result)
        self._append(made)
        if self.group is not None:
            self.group.nodes.append(made)
        return result


def node(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function`; while a graph is being captured, the whole call becomes one node of it."""
    if _recorder is None:
        return function(*args, **kwargs)
    return _recorder.record_call(function, args, kwargs)


def task(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As ``node``, for a call that a task group may hold: between ``graph_task_update_begin`` and ``_end`` it gives the
    captured call other arguments, and is not run."""
    if _updater is not None:
        _updater.give(function, args, kwargs)
        return None
    return node(function, *args, **kwargs)


def is_current_stream_capturing() -> bool:
    return _recorder is not None


def wait_in_graph(event: Any) -> bool:
    """Makes the graph that is being captured wait for ``event``; whether there is one."""
    if _recorder is not None:
        _recorder.record_event(Wait(event))
    return _recorder is not None


def reset_in_graph(event: Any) -> bool:
    """Makes the graph that is being captured reset ``event``; whether there is one."""
    if _recorder is not None:
        _recorder.record_event(Reset(event))
    return _recorder is not None


class NPUGraph:
    """A recorded sequence of calls."""

    def __init__(self) -> None:
        self._nodes: list[Node | Wait | Reset] = []
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
        """Runs up to the first event that has not been recorded, and on from there when it is.

        Raises RuntimeError before a capture.
        """
        if not self._captured:
            raise RuntimeError("replay of a graph that was not captured")
        self._go_on(iter(self._nodes))

    def _go_on(self, nodes: Iterator[Node | Wait | Reset]) -> None:
        global replaying
        replaying = True
        try:
            with torch.inference_mode():  # as on a device, nothing of a replay is part of a backward pass
                for recorded in nodes:
                    if isinstance(recorded, Node):
                        recorded.run()
                    elif isinstance(recorded, Reset):
                        recorded.event.forget()
                    elif recorded.event.pending(lambda: self._go_on(nodes)):
                        return
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


@dataclass(frozen=True)
class TaskGroup:
    """The calls of a graph whose arguments the host may change."""

    nodes: list[Node] = field(default_factory=list)


class _Updater(TorchDispatchMode):
    """Takes calls for new arguments of a group's calls, in order, and runs none."""

    def __init__(self, group: TaskGroup) -> None:
        super().__init__()
        self._nodes = iter(group.nodes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace not in _KERNELS:  # what prepares the arguments
            return func(*args, **(kwargs or {}))
        self.give(func, args, kwargs or {})
        return None

    def give(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """New arguments for the group's next call."""
        node = next(self._nodes, None)
        if node is None or node.function is not function:
            raise RuntimeError(f"{function} updates a task that was captured as {node and node.function}")
        node.args, node.kwargs = args, kwargs


_updater: _Updater | None = None


def graph_task_group_begin(stream: Any) -> None:
    """Begins the calls of which a replay may get other arguments."""
    if _recorder is None or _recorder.group is not None:
        raise RuntimeError("a task group begins outside of a capture, or in another group")
    _recorder.group = TaskGroup()


def graph_task_group_end(stream: Any) -> TaskGroup:
    """The group that ends here."""
    if _recorder is None or _recorder.group is None:
        raise RuntimeError("no task group has begun")
    group, _recorder.group = _recorder.group, None
    return group


def graph_task_update_begin(stream: Any, handle: TaskGroup) -> None:
    """From here on calls give a group's calls new arguments, and are not run."""
    global _updater
    _updater = _Updater(handle)
    _updater.__enter__()


def graph_task_update_end(stream: Any) -> None:
    """Raises RuntimeError without a beginning."""
    global _updater
    if _updater is None:
        raise RuntimeError("graph_task_update_end without graph_task_update_begin")
    _updater.__exit__(None, None, None)
    _updater = None
