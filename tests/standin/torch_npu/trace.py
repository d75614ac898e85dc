# SPDX-License-Identifier: Apache-2.0
"""What each rank does in each step, as JSON lines in ``$STANDIN_TRACE/<pid>.jsonl``; nothing is installed without it.

Three kinds of event: "step" (begin, and the same with "end": true), "collective", and "host_read", a place where the
host must wait for the device. The NPU is the CPU here, so tensors carry a mark instead: one made on the NPU or moved
there has it, and so has any result computed from one. A torch function mode keeps the marks. It stays off inside
operators of torch_npu and while torch compiles, so only what a device would see as a transfer is counted:
- a value read: item, bool, int, float, index, tolist, numpy, equal, and a marked tensor used as a slice bound or a
size;
- a copy to the host: cpu, to, copy_; if it was non_blocking, the wait for an event or a stream after it counts instead.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode
from torch.utils._pytree import tree_iter

from torch_npu import collectives, device, graph, library
from torch_npu.npu import streams

_DIRECTORY = os.environ.get("STANDIN_TRACE")
_MARK = "_standin_on_npu"
_SOURCE = re.compile(r"^.*/((?:vllm|vllm_ascend)/.+)$")

_file: tuple[int, TextIO] | None = None
_step_depth = 0
_download_pending = False


def enabled() -> bool:
    return bool(_DIRECTORY)


def _dp_rank() -> int | None:
    state = sys.modules.get("vllm.distributed.parallel_state")
    group = getattr(state, "_DP", None)
    return group.rank_in_group if group is not None else None


def emit(kind: str, **fields: Any) -> None:
    """Appends one event to this process's file."""
    global _file
    pid = os.getpid()
    if _file is None or _file[0] != pid:
        directory = Path(str(_DIRECTORY))
        directory.mkdir(parents=True, exist_ok=True)
        _file = pid, (directory / f"{pid}.jsonl").open("a", buffering=1)
    _file[1].write(json.dumps({"t": time.time(), "pid": pid, "dp_rank": _dp_rank(), "kind": kind, **fields}) + "\n")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Brackets one step's events."""
    global _step_depth
    emit("step", what=what)
    _step_depth += 1
    try:
        yield
    finally:
        _step_depth -= 1
        emit("step", what=what, end=True)


def _reader() -> dict[str, Any]:
    """File, line and function of the innermost frame inside vllm or vllm_ascend."""
    frame = sys._getframe(1)
    while frame is not None:
        match = _SOURCE.match(frame.f_code.co_filename)
        if match:
            return {"file": match.group(1), "line": frame.f_lineno, "func": frame.f_code.co_name}
        frame = frame.f_back  # type: ignore[assignment]
    return {"file": None, "line": None, "func": None}


def _host_read(how: str) -> None:
    if _step_depth and not graph.replaying:
        emit("host_read", how=how, **_reader())


def _host_wait(how: str) -> None:
    global _download_pending
    if _download_pending:
        _download_pending = False
        _host_read(how)


def on_npu(value: Any) -> bool:
    """Whether `value` is a tensor with the mark."""
    return isinstance(value, Tensor) and getattr(value, _MARK, False)


def mark(tensor: Tensor, placed: bool = True) -> None:
    if placed or on_npu(tensor):
        setattr(tensor, _MARK, placed)


def _mark_all(values: Any) -> None:
    for leaf in tree_iter(values):
        if isinstance(leaf, Tensor):
            mark(leaf)


_READS = {
    Tensor.item: "item",
    Tensor.__bool__: "bool",
    Tensor.__int__: "int",
    Tensor.__float__: "float",
    Tensor.__index__: "index",
    Tensor.tolist: "tolist",
    Tensor.numpy: "numpy",
    Tensor.__array__: "numpy",
    Tensor.is_nonzero: "bool",
    Tensor.equal: "equal",
    torch.is_nonzero: "bool",
    torch.equal: "equal",
    torch.allclose: "equal",
}
_DEVICE_OF = Tensor.device.__get__  # type: ignore[attr-defined]
_INDEXING = (Tensor.__getitem__, Tensor.__setitem__)
_SIZED = {torch.empty: 0, torch.zeros: 0, torch.ones: 0, torch.full: 0}


def _bounds(index: Any) -> Iterator[Tensor]:
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, slice):
            yield from (bound for bound in (part.start, part.stop, part.step) if on_npu(bound))


def _copies_to_host(non_blocking: bool, how: str) -> None:
    global _download_pending
    if non_blocking:
        _download_pending = True
    else:
        _host_read(how)


class _Marks(TorchFunctionMode):
    """Keeps the marks and reports the reads."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _DEVICE_OF and on_npu(args[0]):
            return device.NPU
        if func is Tensor.to:
            return self._moved(func, args, kwargs)
        self._report(func, args, kwargs)
        result = func(*args, **kwargs)
        if func is not Tensor.copy_ and any(on_npu(leaf) for leaf in tree_iter((args, kwargs))):
            _mark_all(result)
        return result

    def _moved(self, to: Any, args: Any, kwargs: Any) -> Any:
        source = args[0]
        target = kwargs.get("device", args[1] if len(args) > 1 else None)
        if isinstance(target, Tensor):
            target = device.NPU if on_npu(target) else device.CPU
        if isinstance(target, str):
            target = torch.device(target)
        if isinstance(target, torch.device):
            placed = device.is_npu(target)
            if on_npu(source) and not placed:
                _copies_to_host(bool(kwargs.get("non_blocking", len(args) > 3 and args[3])), "to")
        else:
            placed = on_npu(source)
        result = to(*args, **kwargs)
        if result is not source:
            mark(result, placed)
        return result

    def _report(self, func: Any, args: Any, kwargs: Any) -> None:
        how = _READS.get(func)
        if how is not None:
            if any(on_npu(value) for value in args[:2]):
                _host_read(how)
        elif func is Tensor.copy_:
            source = args[1] if len(args) > 1 else kwargs.get("src")
            if on_npu(source) and not on_npu(args[0]):
                _copies_to_host(bool(kwargs.get("non_blocking", len(args) > 2 and args[2])), "copy_")
        elif func in _INDEXING:
            for _ in _bounds(args[1]):
                _host_read("index")
        elif func in _SIZED:
            for size in args[0] if args and isinstance(args[0], (tuple, list)) else args:
                if on_npu(size):
                    _host_read("index")


_marks: _Marks | None = None


def start() -> None:
    """Begins to keep marks in this thread; a worker calls it before it makes its first tensor."""
    global _marks
    if _marks is None:
        _marks = _Marks()
        _push_mode(_marks)


@contextmanager
def _paused() -> Iterator[None]:
    """Takes the function mode off torch's stack, for torch's compiler would trace into it."""
    above = []
    while torch._C._len_torch_function_stack():
        above.append(_pop_mode())
    kept = [mode for mode in reversed(above) if mode is not _marks]
    for mode in kept:
        _push_mode(mode)
    try:
        yield
    finally:
        for _ in kept:
            _pop_mode()
        for mode in reversed(above):
            _push_mode(mode)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compile``, whose compiled callables run without the mode; what they return is marked."""

    def without_marks(compiled: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compiled)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _marks is None:
                return compiled(*args, **kwargs)
            with _paused():
                result = compiled(*args, **kwargs)
            if any(on_npu(leaf) for leaf in tree_iter((args, kwargs))):
                _mark_all(result)
            return result

        return call

    @functools.wraps(function)
    def compile(model: Any = None, **kwargs: Any) -> Any:
        if model is None:
            return lambda model: compile(model, **kwargs)
        compiled = function(model, **kwargs)
        return compiled if isinstance(model, torch.nn.Module) else without_marks(compiled)

    return compile


def _python_kernel(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A custom operator written in Python: torch turns function modes off to run it; on again inside."""

    @functools.wraps(kernel)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _marks is None or torch._C._len_torch_function_stack():
            return kernel(*args, **kwargs)
        with _marks:
            return kernel(*args, **kwargs)

    return call


def _collective(op: str, tensor: Tensor | None, group: Any, is_async: bool) -> None:
    name, where = _group_name(group)
    emit(
        "collective",
        op=op,
        group=name,
        device=where,
        shape=list(tensor.shape) if tensor is not None else [],
        dtype=str(tensor.dtype).removeprefix("torch.") if tensor is not None else None,
        **{"async": is_async, "replayed": graph.replaying},
    )


def _group_name(group: Any) -> tuple[str, str]:
    """(vLLM's name of the group, "npu" or "cpu": which of its two)."""
    state = sys.modules.get("vllm.distributed.parallel_state")
    for name, reference in dict(getattr(state, "_groups", {})).items():
        coordinator = reference()
        if coordinator is None:
            continue
        if group is coordinator.device_group:
            return name.partition(":")[0], "npu"
        if group is coordinator.cpu_group:
            return name.partition(":")[0], "cpu"
    with contextlib.suppress(Exception):
        return "world" if group is None else _described(group), "npu" if dist.get_backend(group) == "hccl" else "cpu"
    return "other", "cpu"


def _described(group: Any) -> str:
    """The name that whoever made a group outside of vLLM's gave it."""
    return str(group.group_desc) if group.group_desc != "undefined" else "other"


def install() -> None:
    """Hooks the parts of the stand-in that report; call after device.install."""
    device.on_placed = mark
    streams.on_host_wait = _host_wait
    collectives.on_collective = _collective
    library.on_python_kernel = _python_kernel
    graph.is_on_host = lambda tensor: _marks is not None and not on_npu(tensor) and not on_npu(tensor._base)
    torch.compile = _compile(torch.compile)  # type: ignore[assignment]
