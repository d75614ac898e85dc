# SPDX-License-Identifier: Apache-2.0
"""Regions of a graph that the compiler treats apart; here they only run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def super_kernel(scope: str, options: str = "") -> Iterator[None]:
    """Fuses the operators inside into one kernel."""
    yield


@contextmanager
def npu_stream_switch(stream_tag: str, stream_priority: int = 0) -> Iterator[None]:
    """Puts the operators inside on another stream."""
    yield


def npu_wait_tensor(self: Tensor, dependency: Tensor) -> Tensor:
    """`self`, not before `dependency` is there."""
    return self
