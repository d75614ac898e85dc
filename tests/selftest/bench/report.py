# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measured: one table a question, for the terminal and for docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from patchset.authoring import document
from patchset.system.terminal import Terminal
from selftest.bench.pairs import Row

COLUMNS = ("measured", "against", "baseline", "ours", "ratio", "95 % interval", "pairs", "target", "verdict")
RIGHT = "baseline ours ratio pairs target"


@dataclass(frozen=True)
class BenchReport:
    """What one run of `make bench` measured."""

    set_name: str
    machine: str  # what it ran on, without a name
    fast: bool  # whether it was cut short
    rows: tuple[Row, ...]  # what was measured
    notes: tuple[str, ...]  # what was not, and what a reader must know of the rows
    seconds: float  # how long the run took

    ok = True  # a target that is missed is no failure

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, file: Path) -> BenchReport:
        return msgspec.convert(json.loads(file.read_text(encoding="utf-8")), cls)

    def tables(self) -> Iterator[tuple[str, list[Row]]]:
        for question in dict.fromkeys(row.question for row in self.rows):
            yield question, [row for row in self.rows if row.question == question]

    def with_tables_of(self, other: BenchReport) -> BenchReport:
        """This report with the tables of another in place of its own to the same questions, or after them."""
        theirs = dict(other.tables())
        tables = dict(self.tables()) | theirs
        alone = f"{'; '.join(theirs)}: measured apart, on {other.machine}."
        notes = [note for note in self.notes if not note.startswith(f"{'; '.join(theirs)}: ")]
        return replace(self, rows=tuple(chain(*tables.values())), notes=(*notes, alone))

    def open(self) -> list[Row]:
        """Rows that miss their target, or leave it open."""
        return [row for row in self.rows if row.verdict in ("missed", "not decided")]


def machine() -> str:
    """This machine in words: what may be told of it."""
    named = re.search(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = named[1] if named else "an unknown processor"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores, (load, _, _) = len(os.sched_getaffinity(0)), os.getloadavg()
    return (
        f"{cores} cores of {model}, {memory:.0f} GiB, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, load {load:.1f} as it began"
    )


def show(report: BenchReport, terminal: Terminal) -> None:
    for question, rows in report.tables():
        terminal.table(f"{question}, {report.set_name}", COLUMNS, map(cells, rows), right=RIGHT)
    for note in report.notes:
        terminal.note(note)
    for row in report.open():
        terminal.note(f"{row.verdict}: {row.name}: {row.ratio:.2f} against {row.target:g}{row.why and f': {row.why}'}")


def markdown(report: BenchReport) -> str:
    parts = [f"Set {report.set_name}, in {report.seconds / 60:.0f} minutes on {report.machine}.\n"]
    for question, rows in report.tables():
        parts.append(f"### {question}\n\n" + document.table(COLUMNS, map(cells, rows)))
        reasons = dict.fromkeys(row.why for row in rows if row in report.open() and row.why)
        parts += [f"{reason}\n" for reason in reasons]
    return "\n".join([*parts, *(f"- {note}" for note in report.notes)])


def cells(row: Row) -> tuple[str, ...]:
    spread = "count" if not row.pairs else "-" if row.high == inf else f"{row.low:.3f} to {row.high:.3f}"
    target = "" if row.target is None else f"{row.target:g}"
    figures = (f"{row.baseline:.4g}", f"{row.ours:.4g}", f"{row.ratio:.3f}", spread, str(row.pairs or ""))
    return row.name, row.against, *figures, target, row.verdict
