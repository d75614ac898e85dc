# SPDX-License-Identifier: Apache-2.0
"""Tells the other ranks this rank's beats and reads theirs, over the store by which the ranks found each other.

By a thread of its own, and a connection of its own: the store answers from the process of one rank, and where that one
has stopped, a question never returns. Whoever looks at this object never waits.
"""

from __future__ import annotations

import atexit
import socket
import threading
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Mapping, Optional

from torch.distributed import PrefixStore, Store, TCPStore

from vllm_ascend.data_parallel.agreement import Members, key, read_all
from vllm_ascend.data_parallel.beats import Beat
from vllm_ascend.data_parallel.lifeline import Lifeline

_STOP_S = 2.0


@dataclass(frozen=True)
class Look:
    """The beats of all ranks that have told one, read at ``at`` (``time.monotonic``)."""

    at: float
    beats: Mapping[int, Beat]


class Exchange:
    """One rank's part in it: a beat each ``period_s`` seconds, and a look at the others while one is wanted.

    ``before`` and ``now`` are the last two looks. ``lost`` says that the store's process has gone.
    """

    def __init__(self, store: Store, members: Members, rank: int, period_s: float) -> None:
        self.period_s = period_s
        self.members = members
        self.before: Optional[Look] = None
        self.now: Optional[Look] = None
        self.lost = False
        self._store = store
        self._rank = rank
        self._beat: Optional[Beat] = None
        self._wanted = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="data-parallel beats", daemon=True)
        self._wake = threading.Event()
        self._read = threading.Condition()
        self._lifeline: Optional[Lifeline] = None
        self._keys = {other: key("beat", other) for other in members.ranks}

    def start(self) -> None:
        """Exchange beats until the process ends."""
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Tell nothing more: Python ends a process in which a thread comes back from C++ while it is finalized."""
        self._stopped = True
        self._wake.set()
        self._thread.join(_STOP_S)
        if self._lifeline is not None:
            self._lifeline.close()
        atexit.unregister(self.stop)

    def tell(self, beat: Beat, *, look: bool) -> None:
        """This rank's beat from now on; ``look`` asks for those of the others."""
        self._beat, self._wanted = beat, look

    def refresh(self, beat: Beat, limit_s: float) -> Optional[Look]:
        """Tell this beat at once, and look at the others within ``limit_s`` seconds; the last look where that fails."""
        begin = time.monotonic()
        self.tell(beat, look=True)
        self._wake.set()
        with self._read:
            self._read.wait_for(lambda: self.lost or (self.now is not None and self.now.at > begin), limit_s)
        return self.now

    @property
    def answers(self) -> bool:
        """Whether the last look is not older than a few periods."""
        return self.now is not None and time.monotonic() - self.now.at < 3 * self.period_s + 1.0

    def _run(self) -> None:
        store: Optional[Store] = None
        while not self._stopped:
            try:
                if store is None:
                    store = own_connection(self._store, self.period_s)
                    self._knock(store)
                self._turn(store)
                self.lost = False
            except (RuntimeError, OSError):  # the store's process has gone, or does not answer in time
                self.lost = store is None or self.lost  # one that cannot be reached anew either has gone
                store = None
                with self._read:
                    self._read.notify_all()
            self._wake.wait(self.period_s)
            self._wake.clear()

    def _turn(self, store: Store) -> None:
        line = self._lifeline
        if self._beat is not None:
            lost_next = line is not None and line.broken()
            store.set(self._keys[self._rank], replace(self._beat, lost_next=lost_next).dumps())
        if line is not None and not line.connected:
            self._reach_for_next(store, line)
        if not self._wanted:
            return
        at = time.monotonic()
        beats = {rank: Beat.loads(data) for rank, data in read_all(store, self._keys).items()}
        with self._read:
            self.before, self.now = self.now, Look(at, beats)
            self._read.notify_all()

    def _knock(self, store: Store) -> None:
        """Open this rank's door; without one where the system does not let us."""
        if self._lifeline is not None:
            return
        try:
            self._lifeline = Lifeline(_host(store))
            store.set(key("door", self._rank), self._lifeline.address)
        except OSError:
            self._lifeline = None

    def _reach_for_next(self, store: Store, line: Lifeline) -> None:
        door = key("door", self.members.after(self._rank))
        if store.check([door]):
            try:
                line.connect(store.get(door).decode())
            except OSError:
                self._lifeline = None


def _tcp(store: Store) -> Optional[TCPStore]:
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    return store if isinstance(store, TCPStore) else None


def _host(store: Store) -> str:
    tcp = _tcp(store)
    return "localhost" if tcp is None else str(tcp.host)


def own_connection(store: Store, limit_s: float) -> Store:
    """The same store by another connection, without the prefix of ``store``; another kind of store is shared.

    Raises ``RuntimeError`` or ``OSError`` where its process cannot be reached within ``limit_s`` seconds.
    """
    tcp = _tcp(store)
    if tcp is None:
        return store
    with socket.create_connection((tcp.host, tcp.port), limit_s):  # TCPStore's own would try again and again, aloud
        pass
    limit = timedelta(seconds=max(limit_s, 1.0))
    return TCPStore(tcp.host, tcp.port, is_master=False, wait_for_workers=False, timeout=limit)
