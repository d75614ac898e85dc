# SPDX-License-Identifier: Apache-2.0
"""Ranks in processes of their own, and what each found."""

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any


def found_by(rank: Callable[[int, int, Any], None], size: int) -> dict[int, Any]:
    """What ``rank(number, port, queue)`` puts into the queue with its number, of so many ranks that meet at a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=rank, args=(number, port, queue)) for number in range(size)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)  # how a rank leaves is no matter: the first closes connections under the others
        process.kill()
    return found
