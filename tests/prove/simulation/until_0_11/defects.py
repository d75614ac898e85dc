# SPDX-License-Identifier: Apache-2.0
"""Which known defect of its release a finding on the pristine tree's decisions shows, told from what the ranks did."""

from __future__ import annotations

from simulation.checker import Finding
from simulation.record import Invariant
from simulation.schedule import Deployment, Mode
from simulation.until_0_11.releases import THIS
from simulation.world import COUNTS

_APART = (Invariant.COLLECTIVES, Invariant.LIVENESS, Invariant.MOE, Invariant.SIZE, Invariant.GRAPH)


def defect_of(finding: Finding, deployment: Deployment) -> str:
    """Its name in the list of defects, or "" for none of them.

    D1, D19: the ranks part although nothing but counts was exchanged. D3: they exchanged, and compute with different
    with_prefill all the same. D4, D21: they agree, and only one replays the graph. D18: each replays the graph of its
    own rows.
    """
    invariant, what = finding.invariant, finding.what
    if invariant is Invariant.CRASH:
        if "Unsupported soc_version" in what:
            return "D2"
        # Upstream asserts that a dummy batch fits the buffers; TorchAir pads it to a graph that may not.
        overgrown = deployment.mode is Mode.TORCHAIR and "AssertionError" in what
        return "D6" if overgrown or "batch_size" in what else ""
    if invariant is Invariant.CAPACITY:
        for words, name in (("MC2", "D7"), ("the lm head", "D9"), ("for buffers", "D6"), ("count on", "D18")):
            if words in what:
                return name
        return ""
    if invariant is Invariant.ROUNDS:
        return "D16"
    if "[lm head]" in what:
        return "D9"
    if COUNTS in what and not deployment.shared_expert_dp:
        return "D5"
    if THIS.graphs_of_own_size and deployment.mode.acl_graphs and invariant in (Invariant.GRAPH, Invariant.SIZE):
        return "D18"
    if invariant is Invariant.GRAPH and deployment.mode.acl_graphs:
        return "D21" if deployment.mode is Mode.FULL_DECODE else "D4"
    if invariant in _APART and not finding.exchanged:
        return THIS.unsynchronised
    return "D3" if invariant in _APART and not finding.agreed else ""
