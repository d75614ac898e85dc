# SPDX-License-Identifier: Apache-2.0
"""What releases since 0.23.0 decide otherwise: two kinds of graphs, loads of experts, and where metadata goes."""

from __future__ import annotations

import dataclasses

import pytest

from simulation.checker import Outcome, simulate
from simulation.record import Invariant
from simulation.schedule import Deployment, Drafter, Kind, KVRole, Layers, Loads, Mode, Schedule, Work
from simulation.since_0_18.mutants import MUTANTS
from simulation.since_0_18.patched import make
from simulation.since_0_18.strategies import normal

BY_NAME = {one.name: one for one in MUTANTS}
GENERIC = Deployment(layers=Layers.GENERIC)
BALANCED = dataclasses.replace(GENERIC, expert_parallel=True, loads=Loads.PREFILL, max_num_seqs=4)
IDLE, DECODE, PREFILL = Work(), Work(Kind.DECODE, requests=5), Work(Kind.PREFILL, tokens=20)


def run(deployment: Deployment, *steps: tuple[Work, ...]) -> Outcome:
    assert normal(deployment) == deployment
    return simulate(Schedule(deployment, steps), make)


def test_a_decode_beside_a_prefill_replays_the_kind_of_graph_that_both_can() -> None:
    deployment = dataclasses.replace(GENERIC, mode=Mode.BOTH, graph_sizes=(8, 32))
    outcome = run(deployment, (DECODE, IDLE), (DECODE, PREFILL))
    assert outcome.findings == ()
    assert [(one.rows, one.graph) for one in outcome.forwards] == [
        (8, Mode.FULL_DECODE.value),
        (32, Mode.ACL_GRAPH.value),
    ]


def test_a_dense_drafter_asks_nobody() -> None:
    drafts = dataclasses.replace(GENERIC, mode=Mode.BOTH, drafter=Drafter.EAGLE, drafts=1, graph_sizes=(8,))
    assert run(drafts, (IDLE, PREFILL), (IDLE, Work(Kind.SPECULATIVE, rejected=1))).findings == ()


@pytest.mark.parametrize("mode", [Mode.EAGER, Mode.BOTH])
def test_a_parallel_embedding_asks_for_no_equal_rows(mode: Mode) -> None:
    deployment = dataclasses.replace(GENERIC, mode=mode, embedding_parallel=True, graph_sizes=(8, 64))
    deployment = dataclasses.replace(deployment, max_num_seqs=64)
    outcome = run(deployment, (IDLE, PREFILL))
    assert outcome.findings == ()
    assert [one.rows for one in outcome.forwards] == [1 if mode is Mode.EAGER else 64]


@pytest.mark.parametrize("kv_role", [KVRole.NONE, KVRole.BOTH])
def test_the_loads_of_experts_are_exchanged_after_the_same_steps(kv_role: KVRole) -> None:
    """On a node that receives its KV nothing else asks for the counts."""
    deployment = dataclasses.replace(BALANCED, kv_role=kv_role, soc="A3", max_num_batched_tokens=64, prefill_mc2=True)
    steps = ((IDLE, PREFILL), (IDLE, PREFILL), (IDLE, PREFILL))
    assert run(deployment, *steps).findings == ()
    with BY_NAME["a step counts for the loads by a rank's own rows (D29)"].installed():
        assert any("[loads of experts]" in finding.what for finding in run(deployment, *steps).findings)


def test_steps_that_do_not_count_bring_no_exchange_nearer() -> None:
    steps = ((IDLE, DECODE),) * 3
    counted = run(dataclasses.replace(BALANCED, loads=Loads.DECODE), *steps).collectives
    assert counted == run(BALANCED, *steps).collectives + 1


def test_metadata_keeps_off_hosts_that_are_not_reliable() -> None:
    deployment = dataclasses.replace(GENERIC, counts_on_device=True)
    assert run(deployment, (IDLE, DECODE)).findings == ()
    with BY_NAME["counts are reduced on hosts that are not reliable"].installed():
        found = run(deployment, (IDLE, DECODE)).findings
    assert {finding.invariant for finding in found} == {Invariant.HOSTS}
