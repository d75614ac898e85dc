# SPDX-License-Identifier: Apache-2.0
"""The search: the same seed finds the same, mutants are found and shrunk, schedules stay within their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from simulation import family
from simulation.checker import simulate
from simulation.coverage import Coverage
from simulation.mutant import Mutant
from simulation.record import Invariant
from simulation.schedule import Kind, Schedule, Work
from simulation.search import search
from vllm_ascend.data_parallel.metadata import BitFields

MUTANTS: tuple[Mutant, ...] = family.module("mutants").MUTANTS
make = family.module("patched").make
normal, schedules = family.module("strategies").normal, family.module("strategies").schedules
BY_NAME = {one.name: one for one in MUTANTS}


def test_the_patched_tree_holds_every_invariant_in_some_schedules() -> None:
    coverage = Coverage()
    found = search(make, 300, 11, seen=coverage.add)
    assert found.violation is None
    assert found.drawn == coverage.groups["schedules"]["drawn"] == 300
    assert set(coverage.groups["events"]) >= {kind.value for kind in Kind}


def test_one_seed_draws_one_set_of_schedules() -> None:
    drawn: list[list[Schedule]] = []
    for _ in range(2):
        seen: list[Schedule] = []
        search(make, 50, 7, seen=lambda schedule, _, seen=seen: seen.append(schedule))
        drawn.append(seen)
    assert drawn[0] == drawn[1]


def test_a_mutant_is_found_and_shrunk_to_two_ranks_and_one_step() -> None:
    mutant = BY_NAME["an idle rank does not synchronise"]
    with mutant.installed():
        found = search(make, 1000, 3).violation
    assert found is not None
    assert found.finding.invariant is Invariant.COLLECTIVES
    assert found.schedule.deployment.dp == 2
    assert found.schedule.steps == ((Work(Kind.IDLE), Work(Kind.DECODE)),)
    assert simulate(found.schedule, make).findings == (), "the mutant outlived its block"


def test_a_mutant_that_makes_a_mistake_of_its_own_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two broken things only the overlay counts."""

    def broken(*_: Any) -> None:
        raise NameError

    in_mutants = broken.__code__.replace(co_filename=str(Path("simulation") / "mutants.py"))
    monkeypatch.setattr(broken, "__code__", in_mutants)
    monkeypatch.setattr(BitFields, "pack", broken)
    with pytest.raises(NameError):
        search(make, 100, 3)


@settings(max_examples=300, deadline=None)
@given(schedules())
def test_no_batch_is_larger_than_the_scheduler_may_make(schedule: Schedule) -> None:
    one = schedule.deployment
    for works in schedule.steps:
        assert len(works) == one.dp
        for work in works:
            rows = work.rows(one)
            assert len(rows) <= one.max_num_seqs
            assert sum(row.scheduled for row in rows) <= one.max_num_batched_tokens
            assert bool(rows) == work.kind.busy
            assert all(0 <= row.drafts < row.scheduled for row in rows)


@settings(max_examples=300, deadline=None)
@given(schedules())
def test_every_deployment_is_one_that_vllm_ascend_starts(schedule: Schedule) -> None:
    assert normal(schedule.deployment) == schedule.deployment


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.name for one in MUTANTS])
def test_a_mutant_breaks_the_overlay_for_its_block_alone(mutant: Mutant) -> None:
    before = getattr(mutant.owner, mutant.attribute)
    with mutant.installed():
        assert getattr(mutant.owner, mutant.attribute) != before
    assert getattr(mutant.owner, mutant.attribute) == before
