# SPDX-License-Identifier: Apache-2.0
"""The search: the same seed finds the same, mutants are found and shrunk, schedules stay within their limits."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings

from simulation.checker import simulate
from simulation.coverage import SWITCHES, Coverage
from simulation.mutants import MUTANTS
from simulation.patched import make
from simulation.record import Invariant
from simulation.releases import THIS
from simulation.schedule import Deployment, Drafter, Kind, Layers, Mode, Schedule, Work
from simulation.search import search
from simulation.strategies import deployments, normal, schedules

ABSENT = {
    name
    for name, present in {
        "lmhead_parallel": THIS.row_groups,
        "mlp_parallel": THIS.row_groups,
        "shared_expert_dp": THIS.row_groups,
        "oproj_parallel": THIS.splits_o_proj,
        "sequence_parallel": THIS.sequence_parallel,
    }.items()
    if not present
}
BY_NAME = {one.name: one for one in MUTANTS}


def test_the_patched_tree_holds_every_invariant_in_some_schedules() -> None:
    coverage = Coverage()
    found = search(make, 300, 11, seen=coverage.add)
    assert found.violation is None
    assert found.drawn == coverage.groups["schedules"]["drawn"] == 300
    assert set(coverage.groups["events"]) >= {kind.value for kind in Kind}


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name not in ABSENT])
def test_every_switch_of_the_release_is_on_in_some_deployment(switch: str) -> None:
    drawn = find(deployments(), lambda one: bool(getattr(one, switch)), settings=settings(max_examples=5000))
    assert not any(getattr(drawn, name) for name in ABSENT)


def test_one_seed_draws_one_set_of_schedules() -> None:
    drawn: list[list[Schedule]] = []
    for _ in range(2):
        seen: list[Schedule] = []
        search(make, 50, 7, seen=lambda schedule, _, seen=seen: seen.append(schedule))
        drawn.append(seen)
    assert drawn[0] == drawn[1]


def test_a_mutant_is_found_and_shrunk_to_two_ranks_and_one_step() -> None:
    mutant = BY_NAME["an idle rank runs eager (D4)"]
    with mutant.installed():
        found = search(make, 1000, 3).violation
    assert found is not None
    assert found.finding.invariant is Invariant.GRAPH
    assert found.schedule.deployment.dp == 2
    assert found.schedule.steps == ((Work(Kind.IDLE), Work(Kind.DECODE)),)
    assert simulate(found.schedule, make).findings == (), "the mutant outlived its block"


if THIS.row_groups:

    @pytest.mark.parametrize("mode", [Mode.EAGER, Mode.ACL_GRAPH])
    def test_an_mlp_over_the_ranks_needs_as_many_rows_on_each(mode: Mode) -> None:
        deployment = normal(Deployment(mode=mode, layers=Layers.DENSE, mlp_parallel=True))
        assert deployment.mlp_parallel
        schedule = Schedule(deployment, ((Work(Kind.PREFILL, tokens=40), Work()),))
        outcome = simulate(schedule, make)
        assert outcome.findings == ()
        assert [(forward.rows, forward.uniform) for forward in outcome.forwards] == [(40, True)]
        with BY_NAME["MLPs over the DP ranks are forgotten"].installed():
            found = {finding.invariant for finding in simulate(schedule, make).findings}
        assert found >= {Invariant.SIZE, Invariant.COLLECTIVES}


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
    one = schedule.deployment
    assert normal(one) == one
    assert not (one.mode.acl_graphs and one.layers is Layers.CUSTOM)
    assert one.drafts <= max(2, THIS.drafts_of_mtp)
    assert not (one.lmhead_parallel and one.tp > 1)


def test_an_unchunked_mix_is_refused_by_nobody() -> None:
    schedule = Schedule(Deployment(), ((Work(Kind.MIXED, requests=3, tokens=40), Work()),))
    outcome = simulate(schedule, make)
    assert outcome.findings == ()
    assert [(forward.rows, forward.with_prefill) for forward in outcome.forwards] == [(43, True)]


def test_settings_that_no_graph_size_fits_are_refused_at_start() -> None:
    deployment = normal(Deployment(mode=Mode.TORCHAIR, drafter=Drafter.MTP, max_num_seqs=13, max_num_batched_tokens=13))
    outcome = simulate(Schedule(deployment, ((Work(), Work()),)), make)
    assert "raise max_num_batched_tokens to 14" in outcome.refused


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.name for one in MUTANTS])
def test_a_mutant_breaks_the_overlay_for_its_block_alone(mutant: object) -> None:
    before = getattr(mutant.owner, mutant.attribute)  # type: ignore[attr-defined]
    with mutant.installed():  # type: ignore[attr-defined]
        assert getattr(mutant.owner, mutant.attribute) != before  # type: ignore[attr-defined]
    assert getattr(mutant.owner, mutant.attribute) == before  # type: ignore[attr-defined]
