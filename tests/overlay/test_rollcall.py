# SPDX-License-Identifier: Apache-2.0
"""The roll call: who waits where, who is silent, and a store that does not answer."""

from __future__ import annotations

import threading
import time

from torch.distributed import DistNetworkError, HashStore, Store

from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.rollcall import RollCall

LIMIT = 2.0
STUCK = 60.0


def call(store: Store, where: dict[int, str], members: Members, limit: float = LIMIT) -> dict[int, str]:
    """What each rank that waits is told."""
    told: dict[int, str] = {}

    def ask(rank: int, place: str) -> None:
        told[rank] = RollCall(store, members, rank, limit).ask(place)

    threads = [threading.Thread(target=ask, args=one) for one in where.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_all_but_one_wait_in_two_places() -> None:
    store = HashStore()
    store.set("cpu//0/3", b"\x04" + bytes(7) + b"node")  # type: ignore[arg-type]
    told = call(store, {0: "step 8, in A", 1: "step 8, in A", 2: "step 9, in B"}, Members(range(4)))
    assert len(told) == 3 and len(set(told.values())) == 1
    assert sorted(told[0].splitlines()) == [
        "DP rank 0, DP rank 1: step 8, in A",
        "DP rank 2: step 9, in B",
        "no word from DP rank 3 on host node: stopped, dead, or busy elsewhere",
    ]


def test_many_ranks_are_counted() -> None:
    (told,) = call(HashStore(), {0: "step 1, in A"}, Members(range(40))).values()
    assert "DP rank 8 on host unknown and 31 more: stopped" in told


def test_one_that_goes_on_is_no_longer_counted() -> None:
    store, members = HashStore(), Members(range(2))
    call(store, {0: "step 1, in A"}, members)
    RollCall(store, members, 0, LIMIT).leave()
    assert "no word from DP rank 0" in call(store, {1: "step 2, in A"}, members)[1]


class StuckStore(HashStore):
    """That of a process that has stopped: a question never returns."""

    def check(self, keys: list[str]) -> bool:
        time.sleep(STUCK)
        return False


class GoneStore(HashStore):
    """That of a process that has died."""

    def set(self, key: str, value: str) -> None:
        raise DistNetworkError("Connection reset by peer")


def test_a_store_that_has_gone_is_named_at_once() -> None:
    began = time.monotonic()
    (told,) = call(GoneStore(), {1: "step 1, in A"}, Members(range(2)), 10 * STUCK).values()
    assert time.monotonic() - began < STUCK
    assert told.startswith("no answer: DP rank 0, which keeps the store")


def test_a_store_that_does_not_answer_costs_the_limit_and_is_named() -> None:
    began = time.monotonic()
    (told,) = call(StuckStore(), {1: "step 1, in A"}, Members(range(2))).values()
    assert LIMIT <= time.monotonic() - began < STUCK
    assert told == "no answer: DP rank 0, which keeps the store, has stopped or died, or is out of reach"
