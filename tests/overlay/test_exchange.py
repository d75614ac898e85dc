# SPDX-License-Identifier: Apache-2.0
"""Beats over a real store, and a connection that tells a process that has gone from one that is stopped."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from conftest import FORK, Keeper, until
from torch.distributed import PrefixStore, TCPStore

from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Beat, State
from vllm_ascend.data_parallel.exchange import Exchange
from vllm_ascend.data_parallel.lifeline import Lifeline
from vllm_ascend.data_parallel.told import key

pytestmark = pytest.mark.shared

PERIOD = 0.2
LIMIT = 60.0
NAMELESS_S = 2.0


def beat(rank: int, count: int = 1) -> Beat:
    return Beat(rank, count, State.WORKS, 1, None, 0.0, "here")


def client(port: int) -> PrefixStore:
    return PrefixStore("any", TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=LIMIT)))


def run_rank(rank: int, port: int, size: int) -> None:
    exchange = Exchange(client(port), Members(range(size)), rank, PERIOD)
    exchange.tell(beat(rank), look=False)
    exchange.start()
    for count in range(2, 10_000):
        exchange.tell(beat(rank, count), look=False)
        time.sleep(PERIOD / 2)


@pytest.fixture
def peers(keeper: Keeper) -> Iterator[list[BaseProcess]]:
    """Ranks 1 and 2 of three."""
    started = [FORK.Process(target=run_rank, args=(rank, keeper.port, 3), daemon=True) for rank in (1, 2)]
    for process in started:
        process.start()
    yield started
    for process in started:
        process.kill()
        process.join()


@contextmanager
def exchanging(port: int, size: int) -> Iterator[Exchange]:
    """Rank 0 of so many, in this process."""
    exchange = Exchange(client(port), Members(range(size)), 0, PERIOD)
    exchange.tell(beat(0), look=True)
    exchange.start()
    yield exchange
    exchange.stop()


@pytest.fixture
def exchange(keeper: Keeper, peers: list[BaseProcess]) -> Iterator[Exchange]:
    with exchanging(keeper.port, 3) as found:
        yield found


def test_beats_come_and_go_on(exchange: Exchange) -> None:
    until(lambda: exchange.now is not None and set(exchange.now.beats) == {0, 1, 2})
    assert exchange.now is not None
    seen = exchange.now
    until(lambda: exchange.now is not None and exchange.now.beats[2].count > seen.beats[2].count + 1)
    assert exchange.answers and not exchange.lost


@pytest.mark.parametrize(("number", "broken"), [(signal.SIGSTOP, False), (signal.SIGKILL, True)])
def test_a_stopped_process_keeps_its_connection_and_a_killed_one_does_not(
    exchange: Exchange, peers: list[BaseProcess], number: signal.Signals, broken: bool
) -> None:
    until(lambda: exchange._lifeline is not None and exchange._lifeline.connected)
    assert peers[0].pid is not None
    os.kill(peers[0].pid, number)
    if broken:
        until(lambda: exchange.now is not None and exchange.now.beats[0].lost_next)
    else:
        time.sleep(5 * PERIOD)
        assert exchange.now is not None and not exchange.now.beats[0].lost_next
        os.kill(peers[0].pid, signal.SIGCONT)


@pytest.mark.parametrize(("number", "lost"), [(signal.SIGSTOP, False), (signal.SIGKILL, True)])
def test_a_store_that_is_stopped_does_not_answer_and_one_that_is_killed_is_lost(
    keeper: Keeper, number: signal.Signals, lost: bool
) -> None:
    process = keeper.process
    with exchanging(keeper.port, 1) as exchange:
        until(lambda: exchange.answers)
        assert process.pid is not None
        os.kill(process.pid, number)
        begin = time.monotonic()
        assert exchange.refresh(beat(0, 9), 3 * PERIOD) is not None  # the last look; the caller does not wait on
        assert time.monotonic() - begin < LIMIT
        until(lambda: not exchange.answers)
        if lost:
            until(lambda: exchange.lost)
        else:
            assert not exchange.lost
            os.kill(process.pid, signal.SIGCONT)
            until(lambda: exchange.answers)


def test_a_name_service_that_does_not_answer_makes_no_rank_lost(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch asks for the caller's name, and takes that time for the connection's own."""
    connect = TCPStore.__init__

    def connect_nameless(store: TCPStore, *args: Any, timeout: timedelta, **kwargs: Any) -> None:
        time.sleep(NAMELESS_S)
        if timeout.total_seconds() < NAMELESS_S:
            raise RuntimeError("The client socket has timed out")
        connect(store, *args, timeout=timeout, **kwargs)

    monkeypatch.setattr(TCPStore, "__init__", connect_nameless)
    with exchanging(keeper.port, 1) as exchange:
        until(lambda: exchange.answers or exchange.lost)
        assert exchange.answers and not exchange.lost


def test_a_store_that_breaks_at_each_question_is_asked_once_a_period(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def broken(store: TCPStore, *_: object) -> None:
        asked.append(time.monotonic())
        raise RuntimeError("Broken pipe")

    with exchanging(keeper.port, 1) as exchange:
        until(lambda: exchange.answers)
        monkeypatch.setattr(PrefixStore, "compare_set", broken)
        monkeypatch.setattr(TCPStore, "compare_set", broken)
        until(lambda: len(asked) >= 6)
        monkeypatch.undo()
        # The first follows on the break at once; each later one waits for its turn.
        assert all(after - before >= PERIOD / 2 for before, after in zip(asked[1:], asked[2:]))
        until(lambda: exchange.answers)


def test_the_beat_of_another_build_is_none(keeper: Keeper) -> None:
    other = TCPStore("127.0.0.1", keeper.port, is_master=False, timeout=timedelta(seconds=LIMIT))
    told = json.loads(beat(1).dumps())
    with exchanging(keeper.port, 2) as exchange:
        for strange in ({**told, "mood": "good"}, {**told, "state": "DREAMS"}, {"rank": 1}, ["a"]):
            other.set(key("beat/rank", 1), json.dumps(strange))
            before = exchange.now
            until(lambda seen=before: exchange.now is not None and exchange.now is not seen)
            assert set(exchange.now.beats) <= {0}
        other.set(key("beat/rank", 1), json.dumps(told))
        until(lambda: exchange.now is not None and set(exchange.now.beats) == {0, 1})


def test_a_rank_that_does_not_reach_the_next_keeps_its_own_door_open(keeper: Keeper) -> None:
    """Or the rank before it would say that it has gone."""
    other = TCPStore("127.0.0.1", keeper.port, is_master=False, timeout=timedelta(seconds=LIMIT))
    other.set(key("door/rank", 1), "127.0.0.1 1")  # nobody listens there, as behind a firewall
    with exchanging(keeper.port, 2):
        line = Lifeline("127.0.0.1")
        line.connect(other.get(key("door/rank", 0)).decode())
        time.sleep(5 * PERIOD)
        assert not line.broken()
        line.close()


def test_a_host_out_of_reach_has_gone_no_sooner_than_gloo_gives_it_up() -> None:
    """TCP sends again for some 15 minutes (tcp_retries2)."""
    line, other = Lifeline("127.0.0.1"), Lifeline("127.0.0.1")
    line.connect(other.address)
    assert line._next is not None
    asked = [line._next.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
    assert asked[0] * asked[1] >= 900
    line.close()
    other.close()


def test_nobody_at_the_door() -> None:
    line = Lifeline("127.0.0.1")
    assert not line.connected and not line.broken()
    with pytest.raises(OSError, match="refused"):
        line.connect("127.0.0.1 1")
    other = Lifeline("127.0.0.1")
    line.connect(other.address)
    assert line.connected and not line.broken()
    other.close()
    until(line.broken)
    line.close()


def test_a_store_ends_with_its_world() -> None:
    """Or a later world of the process, at the same port, would be given it, with all of its keys."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    exchange = Exchange(PrefixStore("any", store), Members(range(1)), 0, PERIOD)
    exchange.tell(beat(0), look=True)
    exchange.start()
    until(lambda: exchange.now is not None)
    del store
    until(lambda: exchange.lost)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    exchange.stop()


@pytest.mark.parametrize(
    ("number", "lost"),
    [(errno.ECONNREFUSED, True), (errno.EHOSTUNREACH, False), (errno.EMFILE, False), (errno.ETIMEDOUT, False)],
)
def test_a_store_has_gone_where_its_host_says_so_and_not_by_any_error(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, number: int, lost: bool
) -> None:
    tries = 0

    def failing(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("vllm_ascend.data_parallel.exchange.own_connection", failing)
    with exchanging(keeper.port, 1) as exchange:
        until(lambda: tries > 1)
        assert exchange.lost is lost
