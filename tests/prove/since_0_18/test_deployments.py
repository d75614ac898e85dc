# SPDX-License-Identifier: Apache-2.0
"""Deployments of releases since 0.18.0: those that are drawn, and what their ranks come to."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import find, given, settings

from simulation.checker import Outcome, simulate
from simulation.coverage import SWITCHES
from simulation.record import Invariant
from simulation.schedule import Deployment, Drafter, Kind, KVRole, Layers, Mode, Schedule, Work
from simulation.since_0_18.mutants import MUTANTS
from simulation.since_0_18.patched import make
from simulation.since_0_18.releases import THIS, gathers
from simulation.since_0_18.strategies import GROUPS, deployments, normal, schedules

ABSENT = {"dbo", "prefill_mc2", "counts_on_device"} - set(THIS.options)
BY_NAME = {one.name: one for one in MUTANTS}
GENERIC = Deployment(layers=Layers.GENERIC)
IDLE, PREFILL = Work(), Work(Kind.PREFILL, tokens=20)
# MC2 alone exchanges rows here, and vllm-ascend skips the reduction of their counts.
DECODE_NODE = dataclasses.replace(
    GENERIC, soc="A3", expert_parallel=True, kv_role=KVRole.BOTH, max_num_batched_tokens=8
)


def run(deployment: Deployment, *works: Work) -> Outcome:
    assert normal(deployment) == deployment
    return simulate(Schedule(deployment, (works,)), make)


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name not in ABSENT])
def test_every_switch_of_the_release_is_on_in_some_deployment(switch: str) -> None:
    assert find(deployments(), lambda one: bool(getattr(one, switch)), settings=settings(max_examples=5000))


@settings(max_examples=300, deadline=None)
@given(schedules())
def test_every_deployment_has_what_goes_together(schedule: Schedule) -> None:
    one = schedule.deployment
    assert one.layers is not Layers.DENSE
    assert not ((one.gathers or one.embedding_parallel) and one.tp > 1)
    assert not (one.mode is Mode.EAGER and (one.oproj_parallel or one.sequence_pass))
    assert sum((one.sequence_parallel, one.sequence_pass)) <= 1


@pytest.mark.parametrize("mode", [Mode.EAGER, Mode.ACL_GRAPH, Mode.FULL_DECODE])
def test_a_rank_beside_a_prefill_computes_its_own_rows(mode: Mode) -> None:
    outcome = run(dataclasses.replace(GENERIC, mode=mode), IDLE, PREFILL)
    assert outcome.findings == ()
    assert [(forward.rows, forward.graph) for forward in outcome.forwards] == [(1, "")]


def test_decodes_replay_one_graph_and_so_do_idle_ranks() -> None:
    outcome = run(dataclasses.replace(GENERIC, mode=Mode.FULL_DECODE), IDLE, Work(Kind.DECODE, requests=5))
    assert outcome.findings == ()
    assert [(forward.rows, forward.graph) for forward in outcome.forwards] == [(8, Mode.FULL_DECODE.value)]


def test_layers_that_gather_have_equal_rows() -> None:
    grouped = dataclasses.replace(GENERIC, mlp_parallel=True)
    assert gathers(grouped)
    outcome = run(grouped, IDLE, PREFILL)
    assert outcome.findings == ()
    assert [(forward.rows, forward.uniform) for forward in outcome.forwards] == [(20, True)]


def test_a_drafter_runs_the_rows_of_its_step_and_reduces_nothing() -> None:
    drafts = dataclasses.replace(GENERIC, drafter=Drafter.MTP, drafts=2)
    outcome = run(drafts, Work(Kind.SPECULATIVE, requests=2, rejected=1), PREFILL)
    assert outcome.findings == ()
    assert [(forward.what, forward.rows) for forward in outcome.forwards] == [("target", 6), *[("drafter", 6)] * 2]


@pytest.mark.parametrize("mode", [Mode.EAGER, Mode.FULL_DECODE])
def test_a_decode_node_agrees_on_the_graph_alone(mode: Mode) -> None:
    deployment = dataclasses.replace(DECODE_NODE, mode=mode, drafter=Drafter.NGRAM, drafts=1, graph_sizes=(2, 8))
    outcome = run(deployment, IDLE, Work(Kind.DECODE, requests=1))  # one token, where a graph is for two
    assert outcome.findings == ()
    assert [(forward.rows, forward.graph, forward.moe) for forward in outcome.forwards] == [(2, "", "MC2")]
    assert outcome.collectives == (2 if mode is Mode.EAGER else 3), "MC2's two kernels, and what is agreed"


def test_a_prompt_whose_logprobs_would_hang_is_refused_before_a_rank_sees_it() -> None:
    deployment, asks = dataclasses.replace(GENERIC, lmhead_parallel=True), dataclasses.replace(PREFILL, logprobs=True)
    assert run(deployment, IDLE, asks).findings == ()
    with BY_NAME["logprobs of a prompt are not refused (D39)"].installed():
        assert {finding.invariant for finding in run(deployment, IDLE, asks).findings} == {Invariant.LIVENESS}


MTP, EAGLE = ({"drafter": one, "drafts": 2} for one in (Drafter.MTP, Drafter.EAGLE))
# Layers of every model that gather rows; those of an o_proj ask for graphs.
GATHERS = {"oproj_parallel": True, "mode": Mode.ACL_GRAPH, "graph_sizes": (3, 8)}
if not THIS.constant_embedding:
    GATHERS = {"embedding_parallel": True}
UNEQUAL = Work(Kind.SPECULATIVE, requests=1), Work(Kind.SPECULATIVE, requests=2)


def broken(name: str, deployment: Deployment, *works: Work) -> set[Invariant]:
    """What is found with the mutant of this name; nothing is without it."""
    assert run(deployment, *works).findings == ()
    with BY_NAME[name].installed():
        return {finding.invariant for finding in run(deployment, *works).findings}


@pytest.mark.parametrize("group", [name for name in GROUPS if name != "oproj_parallel"])
@pytest.mark.parametrize("mode", [Mode.EAGER, Mode.FULL_DECODE])
def test_a_dense_drafter_s_split_layers_have_equal_rows(mode: Mode, group: str) -> None:
    deployment = dataclasses.replace(GENERIC, mode=mode, graph_sizes=(3, 6), **{group: True}, **EAGLE)
    assert Invariant.COLLECTIVES in broken("a drafter's are (D40)", deployment, *UNEQUAL)


def test_each_draft_of_eagle_has_equal_rows() -> None:
    deployment = dataclasses.replace(GENERIC, mlp_parallel=True, **EAGLE)
    found = broken("a draft has a row for each request (D40)", deployment, *UNEQUAL)
    assert found & {Invariant.COLLECTIVES, Invariant.LIVENESS}


def test_a_drafter_s_split_layers_have_equal_rows_where_mc2_asks_for_none() -> None:
    deployment = dataclasses.replace(DECODE_NODE, unpadded_drafter=True, **GATHERS, **MTP)
    rejects = dataclasses.replace(UNEQUAL[1], rejected=1)
    assert broken("a drafter's are (D40)", deployment, UNEQUAL[0], rejects) & {Invariant.COLLECTIVES, Invariant.SIZE}


@pytest.mark.parametrize("drafter", [{}, MTP, EAGLE], ids=lambda one: str(*list(one.values())[:1]))
@pytest.mark.parametrize("mode", [Mode.ACL_GRAPH, Mode.FULL_DECODE])
def test_an_idle_rank_joins_the_projection_of_deepseek_s_attention(mode: Mode, drafter: dict[str, Any]) -> None:
    deployment = dataclasses.replace(
        GENERIC, mode=mode, layers=Layers.CUSTOM, kv_role=KVRole.BOTH, oproj_parallel=True, graph_sizes=(12,), **drafter
    )
    first_tokens = Work(Kind.PREFILL, tokens=13)
    assert broken("an idle rank's attention projects nothing (D41)", deployment, IDLE, first_tokens)


@pytest.mark.parametrize("drafter", [{}, {"drafter": Drafter.MTP, "drafts": 1}], ids=["alone", "MTP"])
def test_beyond_mc2_s_rows_all_ranks_take_another_way(drafter: dict[str, Any]) -> None:
    deployment = dataclasses.replace(
        DECODE_NODE, kv_role=KVRole.CONSUMER, recompute=True, max_num_seqs=600, max_num_batched_tokens=8192, **drafter
    )
    for name in ("beyond MC2 a rank goes on alone (D42)", "no decode is expected there (D42)"):
        assert Invariant.MOE in broken(name, deployment, IDLE, Work(Kind.DECODE, requests=513))


def test_a_prefill_on_a_decode_node_with_graphs_takes_all_ranks_another_way() -> None:
    deployment = dataclasses.replace(
        DECODE_NODE,
        kv_role=KVRole.CONSUMER,
        recompute=True,
        mode=Mode.FULL_DECODE,
        graph_sizes=(8, 64, 512),
        max_num_batched_tokens=8192,
    )
    long = Work(Kind.PREFILL, tokens=1024)
    assert Invariant.MOE in broken("beyond MC2 a rank goes on alone (D42)", deployment, IDLE, long)


def test_an_idle_rank_drafts_for_as_many_requests_as_the_head_takes() -> None:
    """A long prompt has the rows of more (D44)."""
    deployment = dataclasses.replace(
        GENERIC, lmhead_parallel=True, mlp_parallel=True, unpadded_drafter=True, max_num_seqs=1, **EAGLE
    )
    assert run(deployment, IDLE, PREFILL).findings == ()
