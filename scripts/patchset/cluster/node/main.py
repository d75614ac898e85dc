# SPDX-License-Identifier: Apache-2.0
"""`python patchset-cluster.pyz verify|smoke`: tables or JSON on stdout, progress and errors on stderr."""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
from typing import TYPE_CHECKING, NoReturn

from patchset.cluster.node import check, options
from patchset.cluster.node.expected import Expected
from patchset.cluster.node.schedule import Schedule
from patchset.errors import PatchsetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from patchset.cluster.node.report import NodeRow, RankRow, Report

EXPECTED = "expected.json"
"""Beside this module in the kit."""
_INTERRUPTED = 130
_SHORT = 12


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    as_json = "--json" in words
    try:
        report = _run(_parser().parse_args(words))
    except PatchsetError as error:
        _say("error", error.message)
        if error.hint:
            _say("next", error.hint)
        if as_json:
            failed = {"kind": type(error).__name__, "exit_code": error.exit_code}
            print(json.dumps({"error": {**failed, "message": error.message, "hint": error.hint}}, indent=2))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted", "the cluster is as before")
        return _INTERRUPTED
    print(json.dumps(report.as_dict(), indent=2) if as_json else "\n".join(_lines(report)))
    return report.exit_code


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that a usage error looks like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="patchset-cluster", description=options.HOW, formatter_class=shape)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, summary, add in (
        ("verify", options.VERIFY, options.add_verify),
        ("smoke", options.SMOKE, options.add_smoke),
    ):
        sub = commands.add_parser(name, help=summary, description=summary, epilog=options.HOW)
        sub.formatter_class = shape
        sub.add_argument("--json", action="store_true", help="print one JSON document on stdout")
        add(sub)
    return parser


def _run(arguments: argparse.Namespace) -> Report:
    smoke = None
    if arguments.command == "smoke":
        schedule = Schedule(arguments.seed, arguments.steps, arguments.dp)
        smoke = check.Smoke(schedule, arguments.device, arguments.group)
    return check.run(
        _expected(),
        address=arguments.address,
        timeout=arguments.timeout,
        count=arguments.nodes,
        smoke=smoke,
        step=lambda message: _say("*", message),
    )


def _expected() -> Expected:
    data = pkgutil.get_data(__package__, EXPECTED)
    assert data is not None
    return Expected.from_json(data)


def _say(what: str, message: str) -> None:
    print(f"{what}{'' if what == '*' else ':'} {message}", file=sys.stderr)


def _lines(report: Report) -> list[str]:
    """The report for the reader: a table of nodes, one of ranks, what is wrong, and the sum."""
    expected = report.expected
    lines = [f"{expected.set}: vllm-ascend {expected.ascend}, build {expected.fingerprint[:_SHORT]}", ""]
    if report.nodes:
        lines += _table(("node", "vllm-ascend", "build", *_VERSIONS, "verdict"), map(_node_cells, report.nodes))
    if report.ranks:
        columns = ("rank", "node", "device", "joined s", "first ms", "median us", "slowest us", "verdict")
        lines += ["", *_table(columns, map(_rank_cells, report.ranks))]
    wrong = [f"{row.name}: {row.verdict.value}: {row.why}" for row in report.nodes if row.why]
    wrong += [f"rank {row.rank}: {row.verdict.value}: {row.why}" for row in report.ranks if row.why]
    notes = [f"note: {note}" for note in report.notes]
    return [*lines, "", *wrong, *report.missing, *notes, _sum(report)]


_VERSIONS = ("vllm", "torch", "torch-npu", "cann", "python", "arch")


def _node_cells(row: NodeRow) -> tuple[str, ...]:
    versions = [row.versions.get(name) or "-" for name in ("vllm-ascend", *_VERSIONS)]
    return row.name, versions[0], row.fingerprint[:_SHORT] or "-", *versions[1:], row.verdict.value


def _rank_cells(row: RankRow) -> tuple[str, ...]:
    times = [f"{row.result[name]:.1f}" if row.result else "-" for name in ("joined", "first", "median", "slowest")]
    return str(row.rank), row.node, str(row.result.get("device", "-")), *times, row.verdict.value


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


def _sum(report: Report) -> str:
    fine = sum(not row.verdict.exit_code for row in report.nodes)
    said = f"{fine} of {len(report.nodes)} nodes ok"
    if report.ranks:
        right = sum(not row.verdict.exit_code for row in report.ranks)
        said += f", {right} of {len(report.ranks)} ranks came to what was computed directly"
    return said
