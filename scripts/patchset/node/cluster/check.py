# SPDX-License-Identifier: Apache-2.0
"""verify and smoke: the driver's tasks one after the other, within one time, and the report of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from patchset.node.cluster import report, watch
from patchset.node.cluster.report import ClusterReport, NodeRow, Verdict
from patchset.node.cluster.schedule import Schedule
from patchset.node.expected import Expected


@dataclass(frozen=True)
class Smoke:
    """A smoke run: so many steps of so many ranks, on `auto`, `npu` or `cpu`, over the `device` or the `cpu` group."""

    schedule: Schedule
    device: str
    group: str


def run(
    expected: Expected,
    *,
    address: str,
    timeout: float,
    count: int | None,
    smoke: Smoke | None,
    step: Callable[[str], None],
) -> ClusterReport:
    """Checks a cluster.

    Args:
        expected: what every node must have.
        address: HOST:PORT or "auto".
        timeout: seconds for all of it.
        count: how many nodes there must be, or None.
        smoke: the smoke run to make if every node is fine, or None.
        step: is told what is done now.

    Raises:
        UsageError: the address is malformed, or there are more ranks than devices.
        Findings: other work holds the devices.
        Unavailable: there is no Ray here, or no cluster there.
    """
    end = time.monotonic() + timeout
    limit = timeout / 2 if smoke else timeout
    step(f"asking the nodes of the Ray cluster {_named(address)}")
    survey = {"do": "survey", "address": address, "package": expected.package}
    nodes = report.nodes(watch.run(survey, limit), expected, limit=limit)
    found = ClusterReport(expected, nodes, missing=_missing(nodes, count, limit), notes=_notes(nodes, expected))
    if smoke is None:
        return found
    if found.exit_code:
        return replace(found, notes=(*found.notes, "no smoke run, because not every node is fine"))
    limit = max(1.0, end - time.monotonic())
    schedule = smoke.schedule
    step(f"{schedule.ranks} ranks make {schedule.steps} steps over the {smoke.group} group")
    task = {"do": "ranks", "address": address, "device": smoke.device, "group": smoke.group, **asdict(schedule)}
    ranks = report.ranks(watch.run(task, limit), nodes, schedule, limit=limit)
    return replace(found, ranks=ranks, missing=() if ranks else (f"Ray placed no ranks in {limit:.0f} s",))


def _named(address: str) -> str:
    return "of this machine" if address == "auto" else f"at {address}"


def _missing(nodes: Sequence[NodeRow], count: int | None, limit: float) -> tuple[str, ...]:
    if not nodes:
        return (f"Ray named no nodes in {limit:.0f} s",)
    there = sum(row.verdict is not Verdict.LOST for row in nodes)
    if count is not None and there < count:
        return (f"{there} of {count} nodes are in the cluster",)
    return ()


def _notes(nodes: Sequence[NodeRow], expected: Expected) -> tuple[str, ...]:
    """Versions that all nodes have, and that the release was not made for."""
    fine = [row for row in nodes if row.verdict is Verdict.FINE]
    made_for = {"torch-npu": expected.torch_npu, "cann": expected.cann}
    found = {name: fine[0].versions[name] for name in made_for} if fine else {}
    return tuple(
        f"{name} is {version or 'not there'}; {expected.set} was made for {made_for[name]}"
        for name, version in found.items()
        if version != made_for[name]
    )
