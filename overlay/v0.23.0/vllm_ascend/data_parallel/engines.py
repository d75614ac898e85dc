# SPDX-License-Identifier: Apache-2.0
"""What vLLM's engines agree on between steps: which of them still has requests, and that all of them run or pause.

Each waits for the others there, and is watched in that wait like in a step: as a rank where its worker is in its
process, else by itself. An engine that a server starts anew, with workers in other processes, has met the others before
this module is imported, and is not watched.

A request wakes all engines: the front end tells the others to run. The engine that got the request runs because of the
request, and in vLLM goes back to sleep without a step where an abort has come beside it. The others then wait for that
engine in their first step. So an engine counts as running from its first request on. Engines that are paused are not
woken: they ask each other for requests once they all resume.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Optional, TypeVar

from vllm.config import ParallelConfig
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.engine.core import DPEngineCoreProc

from vllm_ascend.data_parallel.start import own_files, recorder_of_process, watch_engine

_join_engines = ParallelConfig.stateless_init_dp_group

Agreement = TypeVar("Agreement", bound=Callable[..., Any])

# Watches the engine of this process, until that has been done or its worker has joined the other ranks here.
_watch: Optional[Callable[[], object]] = None


def watched(agree: Agreement) -> Agreement:
    """vLLM's own, in which an engine waits for the others, watched."""

    @functools.wraps(agree)
    def agreeing(*args: Any, **kwargs: Any) -> Any:
        global _watch
        if _watch is not None:
            watch, _watch = _watch, None
            watch()
        with recorder_of_process().engines():
            return agree(*args, **kwargs)

    return agreeing  # type: ignore[return-value]


@functools.wraps(_join_engines)
def stateless_init_dp_group(self: Any, return_store: bool = False) -> Any:
    """vLLM's own, called by an engine that starts; the engines tell each other how they are by the same store."""
    global _watch
    group, store = _join_engines(self, return_store=True)
    own_files()  # for the watch, which begins while the engine serves
    _watch = functools.partial(watch_engine, self, store)
    return (group, store) if return_store else group


def running_from_first(add_request: Any) -> Any:
    """vLLM's own, after which the engine runs, where a coordinator has woken the others and nobody has paused them."""

    @functools.wraps(add_request)
    def added(self: Any, *args: Any, **kwargs: Any) -> None:
        add_request(self, *args, **kwargs)
        woken = self.has_coordinator and self.scheduler.pause_state == PauseState.UNPAUSED
        self.engines_running = self.engines_running or woken

    return added


DPEngineCoreProc.add_request = running_from_first(DPEngineCoreProc.add_request)
ParallelConfig.has_unfinished_dp = staticmethod(watched(ParallelConfig.has_unfinished_dp))
ParallelConfig.sync_dp_state = staticmethod(watched(ParallelConfig.sync_dp_state))
ParallelConfig.stateless_init_dp_group = stateless_init_dp_group
