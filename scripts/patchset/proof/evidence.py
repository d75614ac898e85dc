# SPDX-License-Identifier: Apache-2.0
"""patches/<set>/evidence.json: what every smoke test of a set said of its tree, one row a test. Evidence travels with
the patches. Whoever has the same tree and the same tests need not run them all again: the quick tier and a sample of
the rows, drawn from the commit, tell whether the evidence is true here too."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node.errors import Findings, UsageError
from patchset.proof import gate, smoke
from patchset.proof.smoke import SmokeReport
from patchset.proof.testrun import Case, Result
from patchset.sets.setfile import PatchSet
from patchset.system import disk
from patchset.system.terminal import Terminal

NAME = "evidence.json"
SAMPLE = 6
_PROPERTIES = ("mode", "defect", "tree", "refuted", "seen", "quick")


@dataclass(frozen=True)
class Evidence:
    """What a whole run of a set's smoke tests said, on the stand-in."""

    set_name: str
    tree: str  # digest of the patched tree
    tests: str  # digest of the tests with the stand-in
    rows: tuple[Case, ...]  # sorted by name; none has failed

    def foreign(self, patch_set: PatchSet) -> str:
        """Why it is not about the set's tree and today's tests; empty where it is."""
        if self.tree != patch_set.tree:
            return f"it is of tree {self.tree[:12]}, and the set makes {patch_set.tree[:12]}"
        if self.tests != gate.tests_digest(patch_set.name):
            return "the tests or the stand-in have changed since"
        return ""


@dataclass(frozen=True)
class Check:
    """What came of holding a set's evidence against runs here."""

    set_name: str
    foreign: str  # why the evidence says nothing of this tree, so that the whole suite ran; empty where it does
    differing: tuple[str, ...]  # rows that a run here contradicts, as `test: what the evidence says, what was found`
    report: SmokeReport

    @property
    def ok(self) -> bool:
        return self.report.ok and not self.differing

    def as_dict(self) -> dict[str, Any]:
        found = {"foreign": self.foreign or None, "differing": list(self.differing), "run": self.report.as_dict()}
        return {"set": self.set_name, "ok": self.ok, **found}


def file_of(patch_set: PatchSet) -> Path:
    return patch_set.folder / NAME


def load(patch_set: PatchSet) -> Evidence | None:
    """A set's evidence, None where it has none; raises UsageError where the file is not what `make evidence` writes."""
    file = file_of(patch_set)
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
        rows = []
        for row in found["rows"]:
            properties = {name: str(row[name]) for name in _PROPERTIES if name in row}
            name = str(row["test"]).partition("::")[2]
            rows.append(Case(str(row["test"]), name, Result(row["result"]), 0.0, properties=properties))
        return Evidence(str(found["set"]), str(found["tree"]), str(found["tests"]), tuple(rows))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = f"make evidence VERSION={patch_set.name} writes it anew"
        raise UsageError(f"{file}: {error!r}", hint=hint) from error


def make(patch_set: PatchSet, terminal: Terminal, *, offline: bool) -> SmokeReport:
    """Runs the whole suite and writes the evidence if it passes; raises Findings where tests were changed meanwhile."""
    tests = gate.tests_digest(patch_set.name)
    report = smoke.run(patch_set, device="cpu", terminal=terminal, offline=offline)
    if gate.tests_digest(patch_set.name) != tests:
        hint = f"make evidence VERSION={patch_set.name}"
        raise Findings("tests or stand-in were changed while they ran: what they said is of neither", hint=hint)
    rows = []
    for row in sorted(report.cases, key=lambda case: case.node) if report.ok else ():
        told = {name: row.properties[name] for name in _PROPERTIES if name in row.properties}
        rows.append("    " + json.dumps({"test": row.node, "result": row.result.value} | told))
    if rows:
        head = json.dumps({"set": patch_set.name, "tree": patch_set.tree, "tests": tests}, indent=2)
        lines = ",\n".join(rows)  # one row a line, so that a diff shows which test differs
        text = head.removesuffix("\n}") + f',\n  "rows": [\n{lines}\n  ]\n}}\n'
        disk.write(file_of(patch_set), text.encode(), mode=0o644)
    return report


def check(patch_set: PatchSet, terminal: Terminal, *, seed: str, offline: bool) -> Check:
    """Runs the quick tier and a sample of the evidence's rows; the whole suite where the evidence is of something else.
    The set's build tree must be applied; the sample is drawn from `seed`. Raises as `smoke.run`."""
    known = load(patch_set)
    foreign = "there is none" if known is None else known.foreign(patch_set)
    if known is None or foreign:
        terminal.step(f"evidence of {patch_set.name}: {foreign}; the whole suite runs")
        report = smoke.run(patch_set, device="cpu", terminal=terminal, offline=offline)
        return Check(patch_set.name, foreign, (), report)
    drawn = sample(known.rows, f"{seed} {patch_set.name}")
    quick = [row for row in known.rows if "quick" in row.properties]
    asked = {row.node: row for row in (*quick, *drawn)}
    terminal.step(f"evidence of {patch_set.name}: {len(quick)} quick checks and {len(drawn)} drawn from {seed[:12]}")
    report = smoke.run(patch_set, device="cpu", terminal=terminal, offline=offline, tests=tuple(asked))
    return Check(patch_set.name, "", differing(asked, report.cases), report)


def sample(rows: Sequence[Case], seed: str) -> list[Case]:
    """Rows outside of the quick tier, drawn from a seed: the same ones wherever the seed is the same."""
    rest = [row for row in rows if "quick" not in row.properties]
    return random.Random(seed).sample(rest, min(SAMPLE, len(rest)))  # noqa: S311 - drawn, not secret


def differing(asked: Mapping[str, Case], cases: Sequence[Case]) -> tuple[str, ...]:
    found = {case.node: case.result.value for case in cases}
    return tuple(
        f"{test}: {row.result.value} by the evidence, {found.get(test, 'not run')} here"
        for test, row in asked.items()
        if found.get(test) != row.result.value
    )


def cases(patch_set: PatchSet) -> list[Case]:
    """The results of a set's evidence, where it is about the set's tree and today's tests; else none."""
    known = load(patch_set)
    return [] if known is None or known.foreign(patch_set) else list(known.rows)
