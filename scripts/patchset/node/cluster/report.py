# SPDX-License-Identifier: Apache-2.0
"""The driver's events about nodes and ranks against the expected values: rows, one exit code, tables for the reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from patchset.node import fingerprint, table
from patchset.node.cluster.schedule import Schedule
from patchset.node.errors import Findings, Unavailable, first_of
from patchset.node.expected import Expected

Event = Mapping[str, Any]

_FILES_SHOWN = 8
_SHORT = 12  # digits of a digest
_VERSIONS = ("vllm", "torch", "torch-npu", "cann", "python", "arch")


class Verdict(Enum):
    """How a node or rank is; all but FINE, LOST and SILENT are findings."""

    FINE = "ok"
    UNPATCHED = "unpatched"
    DIFFERS = "differs"
    ABSENT = "not installed"
    VERSIONS = "wrong version"
    FAILED = "failed"
    WRONG = "wrong result"
    LOST = "lost"
    SILENT = "no answer"

    @property
    def exit_code(self) -> int:
        """0, 1 for a finding, 6 for what could not be reached."""
        if self is Verdict.FINE:
            return 0
        return (Unavailable if self in (Verdict.LOST, Verdict.SILENT) else Findings).exit_code


@dataclass(frozen=True)
class NodeRow:
    id: str  # Ray's
    name: str  # host and address for the reader
    verdict: Verdict  # what is the matter
    why: str = ""  # in words; empty where nothing is
    fingerprint: str = ""  # of the installed build; empty where none was read
    versions: Mapping[str, str | None] = field(default_factory=dict)  # of PACKAGES, cann, python, arch; None for none
    files: Mapping[str, str] = field(default_factory=dict)  # those not as expected: changed, missing or unknown


@dataclass(frozen=True)
class RankRow:
    """One rank of the smoke run; `result` as rank.Rank.run gives it, empty where there is none."""

    rank: int
    node: str
    verdict: Verdict
    why: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterReport:
    expected: Expected  # what every node was held against
    nodes: tuple[NodeRow, ...]  # by address
    ranks: tuple[RankRow, ...] = ()  # by number; none where no smoke run was asked for or could be made
    missing: tuple[str, ...] = ()  # what should have been there and concerns no row
    notes: tuple[str, ...] = ()  # what the reader should know besides

    @property
    def exit_code(self) -> int:
        """The worst of all: what could not be reached outweighs a finding, because then the answer is not whole."""
        if self.missing:
            return Unavailable.exit_code
        rows: list[NodeRow | RankRow] = [*self.nodes, *self.ranks]
        return max(row.verdict.exit_code for row in rows)

    def as_dict(self) -> dict[str, Any]:
        held = {name: getattr(self.expected, name) for name in ("set", "version", "fingerprint")}
        both = self.nodes, self.ranks
        nodes, ranks = ([{**vars(row), "verdict": row.verdict.value} for row in rows] for rows in both)
        found = {"nodes": nodes, "ranks": ranks, "missing": self.missing, "notes": self.notes}
        return {**held, "exit_code": self.exit_code, **found}


def nodes(events: Sequence[Event], expected: Expected, *, limit: float) -> tuple[NodeRow, ...]:
    """A row for every node that the driver told of in its task `survey`; each had `limit` seconds to answer."""
    introduced = [node for event in events if "nodes" in event for node in event["nodes"]]
    answers = {event["node"]: event for event in events if "node" in event}
    rows = []
    for node in introduced:
        named = "" if node["name"] in (node["address"], node["host"]) else f" {node['name']}"  # ray start --node-name
        who = (node["id"], f"{node['host']} {node['address']}{named}")
        answer = answers.get(node["id"], {})
        if not node["alive"]:
            rows.append(NodeRow(*who, Verdict.LOST, node["why"] or "Ray says that it is dead"))
        elif "survey" in answer:
            rows.append(_judged(who, answer["survey"], expected))
        else:
            rows.append(NodeRow(*who, *_unanswered(answer, limit)))
    return _held_against_each_other(rows)


def ranks(events: Sequence[Event], rows: Sequence[NodeRow], schedule: Schedule, *, limit: float) -> tuple[RankRow, ...]:
    """A row for every rank that the driver placed; each must have come to what is computed here directly."""
    homes: list[str] = next((event["ranks"] for event in events if "ranks" in event), [])
    answers = {event["rank"]: event for event in events if "rank" in event}
    names = {row.id: row.name for row in rows}
    digest = schedule.digest()
    found = []
    for number, home in enumerate(homes):
        who = (number, names.get(home, home))
        answer = answers.get(number, {})
        result = answer.get("result")
        if result is None:
            found.append(RankRow(*who, *_unanswered(answer, limit)))
        elif result["digest"] != digest:
            found.append(RankRow(*who, Verdict.WRONG, result["wrong"] or "other steps than were asked for", result))
        else:
            found.append(RankRow(*who, Verdict.FINE, "", result))
    return tuple(found)


def _unanswered(answer: Event, limit: float) -> tuple[Verdict, str]:
    """What is the matter with a node or rank without a result, and why."""
    for kind, verdict in (("failed", Verdict.FAILED), ("lost", Verdict.LOST)):
        if kind in answer:
            return verdict, answer[kind]
    return Verdict.SILENT, f"no answer in {limit:.0f} s"


def _judged(who: tuple[str, str], survey: Mapping[str, Any], expected: Expected) -> NodeRow:
    versions = {**survey["versions"], **{name: survey[name] for name in ("cann", "python", "arch")}}
    root, files = survey["root"], survey["files"]
    different = _differences(files, expected.files)

    def row(verdict: Verdict, why: str = "") -> NodeRow:
        return NodeRow(*who, verdict, why, fingerprint.of(files, expected.package) if root else "", versions, different)

    if root is None:
        return row(Verdict.ABSENT, f"an import finds no {expected.package}")
    if different and not _differences(files, expected.pristine):
        return row(Verdict.UNPATCHED, f"{root} is upstream's release, without the patches")
    if different:
        shown = ", ".join(first_of([f"{path} {how}" for path, how in different.items()], _FILES_SHOWN))
        return row(Verdict.DIFFERS, f"{root}: {shown}")
    must = {"vllm-ascend": expected.version, "vllm": expected.vllm, "torch": expected.torch}
    wrong = []
    for name, one in must.items():
        found = versions[name] or "not there"
        if one != (found if "+" in one else found.partition("+")[0]):  # a local label counts where one is expected
            wrong.append(f"{name} is {found}, not {one}")
    return row(Verdict.VERSIONS, "; ".join(wrong)) if wrong else row(Verdict.FINE)


def _held_against_each_other(rows: Sequence[NodeRow]) -> tuple[NodeRow, ...]:
    """Rows that are fine by themselves must have the same torch_npu, CANN and Python minor version as most others."""
    fine = [row for row in rows if row.verdict is Verdict.FINE]
    usual = {
        name: Counter(_minor(row, name) for row in fine).most_common(1) for name in ("torch-npu", "cann", "python")
    }
    judged = []
    for row in rows:
        odd = [
            f"{name} is {_minor(row, name)}, {most[0][0]} on other nodes"
            for name, most in usual.items()
            if row.verdict is Verdict.FINE and _minor(row, name) != most[0][0]
        ]
        judged.append(replace(row, verdict=Verdict.VERSIONS, why="; ".join(odd)) if odd else row)
    return tuple(judged)


def _minor(row: NodeRow, name: str) -> str:
    version = row.versions[name] or "not there"
    return ".".join(version.split(".")[:2]) if name == "python" else version


def _differences(found: Mapping[str, str], must: Mapping[str, str]) -> dict[str, str]:
    def how(path: str) -> str:
        return "missing" if path not in found else "unknown" if path not in must else "changed"

    return {path: how(path) for path in sorted({*found, *must}) if found.get(path) != must.get(path)}


def lines(report: ClusterReport) -> list[str]:
    """The report for the reader: a table of nodes, one of ranks, what is wrong, and the sum."""
    expected = report.expected
    shown = [f"{expected.set}: vllm-ascend {expected.version}, build {expected.fingerprint[:_SHORT]}", ""]
    if report.nodes:
        columns: tuple[str, ...] = ("node", "vllm-ascend", "build", *_VERSIONS, "verdict")
        shown += table.lines(columns, [_node_cells(row) for row in report.nodes])
    if report.ranks:
        columns = ("rank", "node", "device", "joined s", "first ms", "median us", "slowest us", "verdict")
        shown += ["", *table.lines(columns, [_rank_cells(row) for row in report.ranks])]
    wrong = [f"{row.name}: {row.verdict.value}: {row.why}" for row in report.nodes if row.why]
    wrong += [f"rank {row.rank}: {row.verdict.value}: {row.why}" for row in report.ranks if row.why]
    notes = [f"note: {note}" for note in report.notes]
    said = f"{_fine(report.nodes)} of {len(report.nodes)} nodes ok"
    if report.ranks:
        said += f", {_fine(report.ranks)} of {len(report.ranks)} ranks came to what was computed directly"
    return [*shown, "", *wrong, *report.missing, *notes, said]


def _fine(rows: Sequence[NodeRow | RankRow]) -> int:
    return sum(row.verdict is Verdict.FINE for row in rows)


def _node_cells(row: NodeRow) -> tuple[str, ...]:
    versions = [row.versions.get(name) or "-" for name in ("vllm-ascend", *_VERSIONS)]
    return row.name, versions[0], row.fingerprint[:_SHORT] or "-", *versions[1:], row.verdict.value


def _rank_cells(row: RankRow) -> tuple[str, ...]:
    times = [f"{row.result[name]:.1f}" if row.result else "-" for name in ("joined", "first", "median", "slowest")]
    return str(row.rank), row.node, str(row.result.get("device", "-")), *times, row.verdict.value
