# SPDX-License-Identifier: Apache-2.0
"""A connection to the process of the next rank, which breaks when that process ends, and holds while it is stopped.

The operating system of a host closes what its processes leave, so that nothing need be asked: a connection of which
nobody reads or writes anything. Each rank has one to the next, in a ring. Where a firewall lets none through there is
none, and a rank that has gone is one that says no more: its own door stays open for the rank before it.
"""

from __future__ import annotations

import socket
from typing import Optional

_CONNECT_S = 2.0
# A host that has gone closes nothing, and neither does one that is suspended, or out of reach for a while. It has gone
# once it has not answered for 15 minutes, for which TCP sends again what gloo has sent it: until then a step goes on.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 15))


class Lifeline:
    """This rank's end of the connection to the next one, and the door at which the rank before it knocks."""

    def __init__(self, reachable_from: str) -> None:
        """Open the door, at the address by which this host reaches ``reachable_from``. Raises ``OSError``."""
        self._next: Optional[socket.socket] = None
        # Connections wait here for as long as the process lives; nobody takes them.
        self._door = socket.create_server((_own_address(reachable_from), 0), family=_family(reachable_from), backlog=8)

    @property
    def address(self) -> str:
        """Host and port of the door."""
        host, port = self._door.getsockname()[:2]
        return f"{host} {port}"

    @property
    def connected(self) -> bool:
        """Whether there is a connection, broken or not."""
        return self._next is not None

    def connect(self, address: str) -> None:
        """Knock at the next rank's door. Raises ``OSError``."""
        host, port = address.split()
        connection = socket.create_connection((host, int(port)), timeout=_CONNECT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setblocking(False)
        self._next = connection

    def broken(self) -> bool:
        """Whether the next rank's process has ended, or its host is out of reach."""
        if self._next is None:
            return False
        try:
            return self._next.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close both ends."""
        self._door.close()
        if self._next is not None:
            self._next.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.getaddrinfo(host, None)[0][0]


def _own_address(other: str) -> str:
    with socket.socket(_family(other), socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))  # sends nothing
        return str(probe.getsockname()[0])
