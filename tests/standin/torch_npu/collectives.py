# SPDX-License-Identifier: Apache-2.0
"""The backend "hccl", carried by gloo, and the functions of torch.distributed that the stand-in watches.

A watched call is one node of a graph that is being captured, and one event of a trace. Gloo has no all-to-all of
lists; it is put together here from the one that gloo has.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch import Tensor

from torch_npu import graph

# Told about each watched call before it is made: name, first tensor, group, async; set by trace.py, else None.
on_collective: Callable[[str, Tensor | None, Any, bool], None] | None = None

_WATCHED = (
    "all_gather",
    "all_gather_into_tensor",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "gather",
    "irecv",
    "isend",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "send",
)

_groups_by_name: dict[str, dist.ProcessGroup] = {}


class ProcessGroupHCCL(dist.ProcessGroupGloo):
    """Gloo, with the two things that vllm-ascend asks of an HCCL group."""

    class Options:
        """Options of a group; only the time limit means something here. The group keeps those that it was given."""

        def __init__(self) -> None:
            self._timeout = c10d.default_pg_timeout
            self.hccl_config: dict[str, Any] = {}

    def __init__(self, store: dist.Store, rank: int, size: int, options: Any = None) -> None:
        self.hccl_options = options
        timeout = getattr(options, "_timeout", options)
        super().__init__(store, rank, size, timeout if isinstance(timeout, timedelta) else c10d.default_pg_timeout)
        self._comm_name = f"standin_{len(_groups_by_name)}"
        _groups_by_name[self._comm_name] = self

    def get_hccl_comm_name(self, rank: int, init_comm: bool = True) -> str:
        """The name by which a fused operator finds this group."""
        return self._comm_name


def group_by_name(name: str) -> Any:
    """The group that `get_hccl_comm_name` named."""
    return _groups_by_name[name]


def _create_hccl(made_by: Any, options: ProcessGroupHCCL.Options | None) -> ProcessGroupHCCL:
    if options is None:
        options = ProcessGroupHCCL.Options()
    options._timeout = made_by.timeout
    return ProcessGroupHCCL(made_by.store, made_by.group_rank, made_by.group_size, options)


def _all_to_all(
    output_tensor_list: list[Tensor], input_tensor_list: list[Tensor], group: Any = None, async_op: bool = False
) -> Any:
    """``torch.distributed.all_to_all`` on gloo: each list holds one contiguous tensor a rank, of any shapes."""
    flat = torch.cat([tensor.reshape(-1) for tensor in input_tensor_list])
    sizes_in = [tensor.numel() for tensor in input_tensor_list]
    sizes_out = [tensor.numel() for tensor in output_tensor_list]
    received = flat.new_empty(sum(sizes_out))
    _unwatched["all_to_all_single"](received, flat, sizes_out, sizes_in, group=group)
    for tensor, part in zip(output_tensor_list, received.split(sizes_out), strict=True):
        tensor.copy_(part.view_as(tensor))
    return c10d._IllegalWork() if async_op and group is dist.GroupMember.NON_GROUP_MEMBER else None


_unwatched: dict[str, Callable[..., Any]] = {}


def _first_tensor(values: Sequence[Any]) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor):
            return value
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            return value[0]
    return None


def _waited(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call as a graph node: a captured collective is ordered by the stream, so its handle is waited for at once."""
    work = function(*args, **kwargs)
    if isinstance(work, dist.Work):
        work.wait()
    return work


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    group_position = list(inspect.signature(function).parameters).index("group")

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if on_collective is None and not graph.is_current_stream_capturing():
            return function(*args, **kwargs)
        group = args[group_position] if len(args) > group_position else kwargs.get("group")

        def run(*run_args: Any, **run_kwargs: Any) -> Any:
            if on_collective is not None:
                on_collective(
                    name, _first_tensor((*run_args, *run_kwargs.values())), group, bool(run_kwargs.get("async_op"))
                )
            with torch._C.DisableTorchFunction():  # else torch hands the call to the trace's mode, which makes it again
                if graph.is_current_stream_capturing() or graph.replaying:
                    return _waited(function, run_args, run_kwargs)
                return function(*run_args, **run_kwargs)

        return graph.node(run, *args, **kwargs)

    return call


def install() -> None:
    """Registers the backend and wraps torch.distributed. Idempotent."""
    if "HCCL" in dist.Backend._plugins:
        return
    dist.Backend.register_backend("hccl", _create_hccl, extended_api=True, devices=["cpu"])
    dist.is_hccl_available = lambda: True  # type: ignore[attr-defined]
    for name in _WATCHED:
        _unwatched[name] = getattr(dist, name)
        watched = _watched(name, _all_to_all if name == "all_to_all" else _unwatched[name])
        setattr(dist, name, watched)
        setattr(c10d, name, watched)
