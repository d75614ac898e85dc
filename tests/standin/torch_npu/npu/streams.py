# SPDX-License-Identifier: Apache-2.0
"""``torch.npu`` streams and events. Every kernel here runs at once and in order, so waiting for one is immediate.

Waiting on the host is still worth seeing: after a ``non_blocking`` copy to the host it is what makes the step block,
and trace.py counts it as a read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch_npu import graph

# Told when the host waits for the device; set by trace.py, else None.
on_host_wait: Callable[[str], None] | None = None


def _host_waits(how: str) -> None:
    if on_host_wait is not None:
        on_host_wait(how)


class Event:
    """A point in a stream; ``elapsed_time`` is in milliseconds, as in ``torch.cuda``."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        self._time = time.perf_counter()

    def wait(self, stream: Any = None) -> None:
        """Makes a stream wait; it has nothing queued."""

    def reset(self, stream: Any = None) -> None:
        self._time = None

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        _host_waits("event")

    def elapsed_time(self, end_event: Event) -> float:
        if self._time is None or end_event._time is None:
            raise RuntimeError("both events must be recorded before elapsed_time")
        return (end_event._time - self._time) * 1000.0


class ExternalEvent(Event):
    """An event that a captured graph may wait for; the host records it, before or after the graph has come there."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: Callable[[], None] | None = None

    def record(self, stream: Any = None) -> None:
        super().record(stream)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def wait(self, stream: Any = None) -> None:
        graph.wait_in_graph(self)

    def reset(self, stream: Any = None) -> None:
        if not graph.reset_in_graph(self):
            self.forget()

    def forget(self) -> None:
        """Makes it an event that has not been recorded."""
        super().reset()

    def pending(self, then: Callable[[], None]) -> bool:
        """Whether it has yet to be recorded; ``then`` is called when it is."""
        if self._time is None:
            self._waiting = then
        return self._time is None


class Stream:
    """A queue of kernels; empty at any time the host looks."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.priority = priority

    def wait_stream(self, stream: Any) -> None:
        """Makes this stream wait for another; both are empty."""

    def wait_event(self, event: Any) -> None:
        """Makes this stream wait for an event, which has happened."""

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        _host_waits("stream")


_default_stream = Stream()
_current_stream = _default_stream


def default_stream(device: Any = None) -> Stream:
    return _default_stream


def current_stream(device: Any = None) -> Stream:
    return _current_stream


def set_stream(stream: Stream) -> None:
    global _current_stream
    _current_stream = stream


@contextmanager
def stream(stream: Stream | None) -> Iterator[None]:
    """Makes `stream` the current one; None leaves the current one."""
    previous = _current_stream
    if stream is not None:
        set_stream(stream)
    try:
        yield
    finally:
        set_stream(previous)


def synchronize(device: Any = None) -> None:
    """Waits for the whole device."""
    _host_waits("synchronize")
