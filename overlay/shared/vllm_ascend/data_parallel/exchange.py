# SPDX-License-Identifier: Apache-2.0
"""Tells the other ranks this rank's beats and reads theirs, over the store by which the ranks found each other.

By a thread of its own, and a connection of its own: the store answers from the process of one rank, and where that one
has stopped, a question never returns. Whoever looks at this object never waits.
"""

from __future__ import annotations

import atexit
import errno
import socket
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Callable, Optional

from torch.distributed import PrefixStore, Store, TCPStore

from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Beat, Look, look_at, silence_s
from vllm_ascend.data_parallel.lifeline import Lifeline
from vllm_ascend.data_parallel.told import key, tell, told

_STOP_S = 2.0
_CONNECT_S = 5.0
# torch asks the name service who has called, and counts that as time of the connection: 5 s or more where none answers.
_STORE_S = 300.0


class Exchange:
    """One rank's part in it: a beat each ``period_s`` seconds, and a look at the others while one is wanted.

    ``who`` tells apart those that share a store: ranks, and the engines whose workers the ranks are.
    ``now`` is the last look. ``lost`` says that the store's process has gone.
    """

    def __init__(self, store: Store, members: Members, rank: int, period_s: float, who: str = "rank") -> None:
        self.period_s = period_s
        self.members = members
        self.now: Optional[Look] = None
        self.lost = False
        self._connect = connector(store)
        self._rank = rank
        self._beat: Optional[Beat] = None
        self._told = ""  # the beat that the store has
        self._wanted = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="data-parallel beats", daemon=True)
        self._wake = threading.Event()
        self._read = threading.Condition()
        self._lifeline: Optional[Lifeline] = None
        self._shut_out = False  # from the next rank; the rank before is let in all the same
        self._keys = {other: key(f"beat/{who}", other) for other in members.ranks}
        self._doors = {other: key(f"door/{who}", other) for other in members.ranks}

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
        return self.now is not None and time.monotonic() - self.now.at < silence_s(self.period_s)

    def _run(self) -> None:
        store: Optional[Store] = None
        served = False  # by the present connection
        while not self._stopped:
            try:
                if store is None:
                    store = self._connect()
                    self._knock(store)
                self._turn(store)
                self.lost, served = False, True
            except (RuntimeError, socket.gaierror):  # torch's connection broke or took too long; or no name service
                again, store, served = served, None, False
                if again:
                    continue
            except OSError as error:
                store, served = None, False
                with self._read:  # a host that cannot be reached may come back; any other error is this process's own
                    self.lost = self.lost or error.errno == errno.ECONNREFUSED
                    self._read.notify_all()
            self._wake.wait(self.period_s)
            self._wake.clear()

    def _turn(self, store: Store) -> None:
        line = self._lifeline
        if self._beat is not None:
            lost_next = line is not None and line.broken()
            beat = replace(self._beat, lost_next=lost_next).dumps()
            tell(store, self._keys[self._rank], beat, self._told)
            self._told = beat
        if line is not None and not line.connected and not self._shut_out:
            self._reach_for_next(store, line)
        if not self._wanted:
            return
        at = time.monotonic()
        beats = {rank: _understood(data) for rank, data in told(store, self._keys).items()}
        with self._read:
            self.now = look_at({rank: beat for rank, beat in beats.items() if beat is not None}, at, self.now)
            self._read.notify_all()

    def _knock(self, store: Store) -> None:
        """Open this rank's door; without one where the system does not let us."""
        if self._lifeline is not None:
            return
        try:
            self._lifeline = Lifeline(_host(store))
            tell(store, self._doors[self._rank], self._lifeline.address)
        except OSError:
            self._lifeline = None

    def _reach_for_next(self, store: Store, line: Lifeline) -> None:
        door = self._doors[self.members.after(self._rank)]
        if store.check([door]):
            try:
                line.connect(store.get(door).decode())
            except OSError:
                self._shut_out = True


def _understood(data: bytes) -> Optional[Beat]:
    """None for the beat of another build, which may run beside this one where nobody compares builds."""
    try:
        return Beat.loads(data)
    except (KeyError, TypeError, ValueError):
        return None


def _tcp(store: Store) -> Optional[TCPStore]:
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    return store if isinstance(store, TCPStore) else None


def _host(store: Store) -> str:
    tcp = _tcp(store)
    return "localhost" if tcp is None else str(tcp.host)


def connector(store: Store) -> Callable[[], Store]:
    """Opens the same store by another connection, without the prefix of ``store``; another kind of store is shared.

    It knows where a TCPStore listens, and does not hold it: rank 0's would listen on after its world has ended, and a
    later world of that process be given its keys.
    """
    tcp = _tcp(store)
    if tcp is None:
        return lambda: store
    host, port = tcp.host, tcp.port
    return lambda: own_connection(host, port)


def own_connection(host: str, port: int) -> Store:
    """A connection of its own to the store that listens there.

    Raises ``OSError`` where no process listens, and ``RuntimeError`` where that process does not answer.
    """
    with socket.create_connection((host, port), _CONNECT_S):  # TCPStore's own would try again and again, aloud
        pass
    limit = timedelta(seconds=_STORE_S)
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=limit)
