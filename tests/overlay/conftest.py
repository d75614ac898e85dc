# SPDX-License-Identifier: Apache-2.0
"""Random cases are drawn however slow the machine is; and a store that a process of its own keeps."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import pytest
from hypothesis import HealthCheck, settings
from torch.distributed import TCPStore

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Keeper:
    """The process that keeps a store, and the store's port."""

    process: BaseProcess
    port: int


def _keep(tell: Callable[[int], None]) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    tell(store.port)
    threading.Event().wait()


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """In a process of its own: a fork of one that keeps a store could not end."""
    ports = FORK.SimpleQueue()
    process = FORK.Process(target=_keep, args=(ports.put,), daemon=True)
    process.start()
    yield Keeper(process, ports.get())
    process.kill()
    process.join()
