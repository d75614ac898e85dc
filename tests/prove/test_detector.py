# SPDX-License-Identifier: Apache-2.0
"""The watchdog on the simulated ranks: which waits it calls a deadlock, and that a wrong verdict is found."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation import detector, family
from simulation.checker import simulate
from simulation.coverage import Coverage
from simulation.detector import Detector, wrong_verdict
from simulation.mutant import Mutant
from simulation.network import Call, Hang, Mismatch, Network
from simulation.planted import Difference, Divergence, replay
from simulation.search import search
from simulation.watchdogs import WATCHDOGS
from vllm_ascend.data_parallel import verdict

METADATA = Call("dp device", "all_reduce", (3,), metadata=True)
GATHER = Call("dp device", "all_gather", (8,))
make = family.module("patched").make
BY_NAME = {one.name: one for one in family.module("mutants").MUTANTS}
UNSYNCHRONISED = "an idle rank does not synchronise"


@pytest.mark.parametrize(
    ("calls", "finding"),
    [
        ((METADATA, GATHER), verdict.Finding.DEADLOCK),
        ((GATHER, Call("dp device", "all_gather", (9,))), verdict.Finding.DEADLOCK),
        ((GATHER, Call("ep", "all_to_all")), verdict.Finding.DEADLOCK),
        ((METADATA, None), verdict.Finding.IDLE),
        ((Call("ep", "all_to_all", (8,)), Call("ep", "all_to_all", (9,))), verdict.Finding.TOGETHER),
        ((Call("ep", "mc2_dispatch", (8,)), GATHER), verdict.Finding.DEVICE),
    ],
)
def test_what_two_ranks_that_cannot_meet_are_called(
    calls: tuple[Call | None, Call | None], finding: verdict.Finding
) -> None:
    network = Network(2)
    watch = Detector(network)

    def body() -> None:
        if (call := calls[network.rank]) is not None:
            network.issue(call).wait()

    with pytest.raises((Mismatch, Hang)):
        network.run([body] * 2)
    assert watch.stopped() is finding
    assert not watch.wrong
    network.close()


def test_ranks_that_meet_late_are_not_called() -> None:
    network = Network(3)
    watch = Detector(network)

    def body() -> None:
        for _ in range(network.rank):
            network.pause()
        network.issue(METADATA).wait()

    network.run([body] * 3)
    assert not watch.wrong


@pytest.mark.parametrize("always", [True, False])
def test_a_verdict_that_is_always_the_same_is_found(always: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the patched tree, where every wait ends, and on a mutant, where some do not."""
    said = verdict.Finding.DEADLOCK if always else verdict.Finding.WORKING
    monkeypatch.setattr(detector, "judge", lambda *_: verdict.Verdict(said, (), ""))
    with BY_NAME[UNSYNCHRONISED].installed():
        assert wrong_verdict(make, 300, 3) is not None


def test_on_a_mutant_deadlocks_are_called_and_nothing_else() -> None:
    verdicts: Counter[str | None] = Counter()
    with BY_NAME[UNSYNCHRONISED].installed():
        assert wrong_verdict(make, 200, 3, seen=lambda _, outcome: verdicts.update([outcome.verdict])) is None
    assert verdicts["DEADLOCK"] > 0


def test_schedules_are_seen_again_with_every_divergence_and_each_verdict() -> None:
    coverage = Coverage()
    found = search(make, 300, 7, seen=coverage.add, watch=Detector)
    assert found.violation is None
    counted = coverage.groups["divergences"]
    for one in Difference:
        verdicts = {name.rpartition(": ")[2] for name in counted if f"rank {one.value}: " in name}
        called = {"DEADLOCK"} if one not in (Difference.LEAVES, Difference.LATE) else set()
        assert verdicts & {"DEADLOCK"} == called, one
    assert {name for name in counted if name.endswith("none stops")} >= {"one rank comes late: none stops"}


@pytest.mark.parametrize("broken", WATCHDOGS, ids=[one.name for one in WATCHDOGS])
def test_a_broken_watchdog_is_found(broken: Mutant) -> None:
    before = getattr(broken.owner, broken.attribute)
    with broken.installed():
        assert wrong_verdict(make, 300, 3) is not None
    assert getattr(broken.owner, broken.attribute) is before


def test_a_rank_that_works_for_long_before_it_comes_is_late_and_no_hang() -> None:
    network = Network(2)
    watch = Detector(network)
    assert replay(network, [GATHER] * 3, Divergence(Difference.LATE, 0, 2))
    assert not watch.wrong


def test_without_a_detector_nothing_is_judged() -> None:
    seen: list[str | None] = []
    search(make, 20, 5, seen=lambda schedule, _: seen.append(simulate(schedule, make).verdict))
    assert set(seen) == {None}
