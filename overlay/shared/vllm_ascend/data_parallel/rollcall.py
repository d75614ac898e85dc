# SPDX-License-Identifier: Apache-2.0
"""Where each rank that gives up is, asked among those that do: the one that says nothing is the one to look at.

Over the store again, and by a thread of its own: the store answers from the process of the first rank, and where that
one has stopped, a question would never return.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Callable

from torch.distributed import Store

from vllm_ascend.data_parallel.agreement import Members, gloo_host, key

_MOST_NAMED = 8


class RollCall:
    """One rank's part in it; ``limit_s`` is how long it takes at most, in seconds."""

    def __init__(self, store: Store, members: Members, rank: int, limit_s: float) -> None:
        self._store = store
        self._members = members
        self._rank = rank
        self._limit_s = limit_s

    def ask(self, where: str) -> str:
        """Say that this rank gives up at ``where``, leave the others half of the time, and tell what they say."""
        told: list[str] = []

        def run() -> None:
            self._store.set(key("reports", self._rank), where)
            time.sleep(self._limit_s / 2)
            told.append(self._answers())

        self._bounded(run)
        holder = self._members.name(0) if 0 in self._members.ranks else "world rank 0"
        return (
            told[0] if told else f"no answer: {holder}, which keeps the store, has stopped or died, or is out of reach"
        )

    def leave(self) -> None:
        """The wait is over."""
        self._bounded(lambda: self._store.delete_key(key("reports", self._rank)))

    def _answers(self) -> str:
        at: dict[str, list[int]] = {}
        silent = []
        for rank in self._members.ranks:
            if self._store.check([key("reports", rank)]):
                at.setdefault(self._store.get(key("reports", rank)).decode(), []).append(rank)
            else:
                silent.append(rank)
        lines = [f"{self._named(ranks)}: {where}" for where, ranks in at.items()]
        hosts = [f"{self._members.name(rank)} on host {gloo_host(self._store, rank)}" for rank in silent[:_MOST_NAMED]]
        more = f" and {len(silent) - _MOST_NAMED} more" if len(silent) > _MOST_NAMED else ""
        if silent:
            lines.append(f"no word from {', '.join(hosts)}{more}: stopped, dead, or busy elsewhere")
        return "\n".join(lines)

    def _named(self, ranks: list[int]) -> str:
        names = [self._members.name(rank) for rank in ranks[:_MOST_NAMED]]
        return ", ".join(names) + (f" and {len(ranks) - _MOST_NAMED} more" if len(ranks) > _MOST_NAMED else "")

    def _bounded(self, run: Callable[[], object]) -> None:
        def quietly() -> None:
            with suppress(RuntimeError):  # the store has gone with its process
                run()

        thread = threading.Thread(target=quietly, name="data-parallel roll call", daemon=True)
        thread.start()
        thread.join(self._limit_s)
