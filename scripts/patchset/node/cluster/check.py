# SPDX-License-Identifier: Apache-2.0
"""verify and smoke: the driver's tasks one after the other, within one time, and the report of both."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from patchset.node.cluster import report, watch
from patchset.node.cluster.report import ClusterReport, NodeRow, Verdict
from patchset.node.cluster.schedule import Schedule
from patchset.node.expected import Expected


def run(expected: Expected, arguments: argparse.Namespace, step: Callable[[str], None]) -> ClusterReport:
    """Checks a cluster, as `node.options` has it; `step` is told what is done now. Raises what the driver tells."""
    smoke, address = arguments.action == "smoke", arguments.address
    end = time.monotonic() + arguments.timeout
    limit = arguments.timeout / 2 if smoke else arguments.timeout
    step(f"asking the nodes of the Ray cluster {'of this machine' if address == 'auto' else f'at {address}'}")
    survey = {"do": "survey", "address": address, "package": expected.package}
    nodes = report.nodes(watch.run(survey, limit), expected, limit=limit)
    missing = _missing(nodes, arguments.nodes, limit)
    found = ClusterReport(expected, nodes, missing=missing, notes=_notes(nodes, expected))
    if not smoke:
        return found
    if found.exit_code:
        return replace(found, notes=(*found.notes, "no smoke run, because not every node is fine"))
    limit = max(1.0, end - time.monotonic())
    schedule = Schedule(arguments.seed, arguments.steps, arguments.dp)
    step(f"{schedule.ranks} ranks make {schedule.steps} steps over the {arguments.group} group")
    where = {"address": address, "device": arguments.device, "group": arguments.group}
    events = watch.run({"do": "ranks", **where, **asdict(schedule)}, limit)
    ranks = report.ranks(events, nodes, schedule, limit=limit)
    return replace(found, ranks=ranks, missing=() if ranks else (f"Ray placed no ranks in {limit:.0f} s",))


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
