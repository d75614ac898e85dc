# SPDX-License-Identifier: Apache-2.0
"""Which known defect of its release a finding on the pristine tree's decisions shows, told from what the ranks did."""

from __future__ import annotations

from simulation.checker import Finding
from simulation.record import Invariant
from simulation.schedule import Deployment, Layers
from simulation.since_0_18.releases import gathers

_GROUPS = ("[embedding]", "[mlp]", "[o_proj]")
_APART = (Invariant.COLLECTIVES, Invariant.LIVENESS, Invariant.SIZE)


def defect_of(finding: Finding, deployment: Deployment) -> str:
    """Its name in the list of defects, or "" for none of them.

    D23: a rank replays a graph beside one that runs eager, where nothing was exchanged; the same after an exchange is a
    drafter that asks by itself, D34. D27: with context parallelism drafters run different numbers of forwards. D26 is
    D40 too, which has the same layers in a drafter. D29: a rank gathers the loads of experts beside one that has
    counted fewer steps. D41: a rank waits in DeepSeek's projection, another does not. D42: beside one that MC2 serves a
    rank takes another way.
    """
    invariant, what = finding.invariant, finding.what
    by_invariant = {Invariant.PADDING: "D24", Invariant.ROUNDS: "D34", Invariant.MOE: "D42"}
    if invariant is Invariant.CAPACITY:
        return "D7" if "MC2" in what else ""
    if invariant is Invariant.GRAPH:
        return "D34" if finding.exchanged else "D23"
    if invariant in _APART:
        if "[loads of experts]" in what:
            return "D29"
        if "[lm head]" in what:
            return "D39"
        if what.count("[o_proj]") == 1 and deployment.layers is Layers.CUSTOM:
            return "D41"
        if gathers(deployment) and (invariant is Invariant.SIZE or any(group in what for group in _GROUPS)):
            return "D26"
        if deployment.sequence_pass and invariant is not Invariant.LIVENESS:
            return "D33"
        if deployment.context_parallel and deployment.drafts > 1:
            return "D27"
        return "D42" if deployment.recompute and what.count("mc2_") == 1 else ""
    return by_invariant.get(invariant, "")
