# SPDX-License-Identifier: Apache-2.0
"""The report of a cluster for the reader: a table of nodes, one of ranks, and what is wrong."""

from __future__ import annotations

from patchset.node import table
from patchset.node.cluster.report import ClusterReport, NodeRow, RankRow

_SHORT = 12


def lines(report: ClusterReport) -> list[str]:
    """The report for the reader: a table of nodes, one of ranks, what is wrong, and the sum."""
    expected = report.expected
    shown = [f"{expected.set}: vllm-ascend {expected.version}, build {expected.fingerprint[:_SHORT]}", ""]
    if report.nodes:
        shown += table.lines(
            ("node", "vllm-ascend", "build", *_VERSIONS, "verdict"), list(map(_node_cells, report.nodes))
        )
    if report.ranks:
        columns = ("rank", "node", "device", "joined s", "first ms", "median us", "slowest us", "verdict")
        shown += ["", *table.lines(columns, list(map(_rank_cells, report.ranks)))]
    wrong = [f"{row.name}: {row.verdict.value}: {row.why}" for row in report.nodes if row.why]
    wrong += [f"rank {row.rank}: {row.verdict.value}: {row.why}" for row in report.ranks if row.why]
    notes = [f"note: {note}" for note in report.notes]
    return [*shown, "", *wrong, *report.missing, *notes, _sum(report)]


_VERSIONS = ("vllm", "torch", "torch-npu", "cann", "python", "arch")


def _node_cells(row: NodeRow) -> tuple[str, ...]:
    versions = [row.versions.get(name) or "-" for name in ("vllm-ascend", *_VERSIONS)]
    return row.name, versions[0], row.fingerprint[:_SHORT] or "-", *versions[1:], row.verdict.value


def _rank_cells(row: RankRow) -> tuple[str, ...]:
    times = [f"{row.result[name]:.1f}" if row.result else "-" for name in ("joined", "first", "median", "slowest")]
    return str(row.rank), row.node, str(row.result.get("device", "-")), *times, row.verdict.value


def _sum(report: ClusterReport) -> str:
    fine = sum(not row.verdict.exit_code for row in report.nodes)
    said = f"{fine} of {len(report.nodes)} nodes ok"
    if report.ranks:
        right = sum(not row.verdict.exit_code for row in report.ranks)
        said += f", {right} of {len(report.ranks)} ranks came to what was computed directly"
    return said
