# SPDX-License-Identifier: Apache-2.0
"""What vLLM's engines agree on between steps: which of them still has requests, and that all of them run.

Each waits for the others there, and is watched in that wait like in a step: as a rank where its worker is in its
process, else by itself. An engine that a server starts anew, with workers in other processes, has met the others before
this module is imported, and is not watched.

A request wakes all engines: the front end tells the others to run. The engine that got the request runs because of the
request, and in vLLM goes back to sleep without a step where an abort has come beside it. The others then wait for that
engine in their first step. So an engine counts as running from its first request on.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

from torch.distributed import Store
from vllm.config import ParallelConfig
from vllm.distributed import utils
from vllm.v1.engine.core import DPEngineCoreProc

from vllm_ascend.data_parallel.start import own_files, recorder_of_process, watch_engine

_agree_on_requests = ParallelConfig.has_unfinished_dp
_join_engines = ParallelConfig.stateless_init_dp_group

# Watches the engine of this process, until that has been done or its worker has joined the other ranks here.
_watch: Optional[Callable[[], object]] = None


@functools.wraps(_agree_on_requests)
def has_unfinished_dp(*args: Any, **kwargs: Any) -> bool:
    """vLLM's own, watched."""
    global _watch
    if _watch is not None:
        watch, _watch = _watch, None
        watch()
    with recorder_of_process().engines():
        return _agree_on_requests(*args, **kwargs)  # type: ignore[no-any-return]


@functools.wraps(_join_engines)
def stateless_init_dp_group(self: Any, *args: Any, **kwargs: Any) -> Any:
    """vLLM's own, called by an engine that starts."""
    global _watch
    with stores_met() as stores:
        group = _join_engines(self, *args, **kwargs)
    if stores:
        own_files()  # for the watch, which begins while the engine serves
        _watch = functools.partial(watch_engine, self, stores[-1])
    return group


@contextmanager
def stores_met() -> Iterator[list[Store]]:
    """The stores by which vLLM's processes find each other within; a group does not tell its own."""
    stores: list[Store] = []
    meet = utils.rendezvous

    def remembering(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for met in meet(*args, **kwargs):
            stores.append(met[0])
            yield met

    utils.rendezvous = remembering
    try:
        yield stores
    finally:
        utils.rendezvous = meet


def running_from_first(add_request: Any) -> Any:
    """vLLM's own, after which the engine runs, where a coordinator has woken the others."""

    @functools.wraps(add_request)
    def added(self: Any, *args: Any, **kwargs: Any) -> None:
        add_request(self, *args, **kwargs)
        self.engines_running = self.engines_running or self.has_coordinator

    return added


DPEngineCoreProc.add_request = running_from_first(DPEngineCoreProc.add_request)
ParallelConfig.has_unfinished_dp = staticmethod(has_unfinished_dp)
ParallelConfig.stateless_init_dp_group = stateless_init_dp_group
