# SPDX-License-Identifier: Apache-2.0
"""Deployments of releases until 0.11.0: those that are drawn, and what their ranks come to."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings

from simulation.checker import simulate
from simulation.coverage import SWITCHES
from simulation.record import Invariant
from simulation.schedule import Deployment, Drafter, Kind, Layers, Mode, Schedule, Work
from simulation.until_0_11.mutants import MUTANTS
from simulation.until_0_11.patched import make
from simulation.until_0_11.releases import THIS
from simulation.until_0_11.strategies import deployments, normal, schedules
from vllm_ascend.data_parallel.plan import StepPlan

ABSENT = {
    *("embedding_parallel", "sequence_pass", "context_parallel", "recompute", "unpadded_drafter", "prefill_mc2"),
    "counts_on_device",
    *(
        name
        for name, present in {
            "lmhead_parallel": THIS.row_groups,
            "mlp_parallel": THIS.row_groups,
            "shared_expert_dp": THIS.row_groups,
            "oproj_parallel": THIS.splits_o_proj,
            "sequence_parallel": THIS.sequence_parallel,
        }.items()
        if not present
    ),
}
BY_NAME = {one.name: one for one in MUTANTS}


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name not in ABSENT])
def test_every_switch_of_the_release_is_on_in_some_deployment(switch: str) -> None:
    drawn = find(deployments(), lambda one: bool(getattr(one, switch)), settings=settings(max_examples=5000))
    assert not any(getattr(drawn, name) for name in ABSENT)


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

    def test_a_drafter_whose_attention_scatters_its_tokens_has_no_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
        deployment = normal(
            Deployment(tp=2, layers=Layers.CUSTOM, drafter=Drafter.MTP, expert_parallel=True, shared_expert_dp=True)
        )
        assert deployment.shared_expert_dp and deployment.layers is Layers.CUSTOM
        schedule = Schedule(deployment, ((Work(Kind.SPECULATIVE, requests=4, rejected=2), Work(Kind.DECODE)),))
        assert simulate(schedule, make).findings == ()
        of_step = property(lambda plan: lambda _: (plan.num_input_tokens, plan.num_tokens_across_dp))
        monkeypatch.setattr(StepPlan, "drafter_rows", of_step)
        assert {finding.invariant for finding in simulate(schedule, make).findings} == {Invariant.CAPACITY}


@settings(max_examples=300, deadline=None)
@given(schedules())
def test_every_deployment_has_what_goes_together(schedule: Schedule) -> None:
    one = schedule.deployment
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
