# SPDX-License-Identifier: Apache-2.0
"""The table of defects: what the smoke tests show of each on the pristine tree, and on the patched one. Made from the
results of one test run alone. A test names its defects with ``@pytest.mark.defect`` and says what it saw; one that
looks at the pristine tree passes where the defect shows, one that looks at the patched tree where it is gone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from patchset.proof import smoke
from patchset.proof.gate import Tier
from patchset.proof.smoke import SmokeReport
from patchset.proof.testrun import Case, Result
from patchset.sets import facts, series
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal

_TREES = ("pristine", "patched")


@dataclass(frozen=True)
class Evidence:
    passed: bool  # there are tests, and all of them passed
    seen: tuple[str, ...]  # what they saw, in their words
    tests: tuple[str, ...]  # their names; those that did not pass end in their result


@dataclass(frozen=True)
class Defect:
    name: str  # by which patches and tests call it: D1, D6a
    title: str  # what goes wrong, in one line
    pristine: Evidence
    patched: Evidence
    refuted: bool = False  # the tests of the pristine tree show that the claim is wrong
    absent: str = ""  # why the set's release does not have it; then perhaps no test is left; empty where it does
    open: str = ""  # why the set leaves it, where other sets mend it; empty where the set mends it or does not have it

    @property
    def unshown(self) -> str:
        """Why nothing of it is shown; empty where the tests show it."""
        return self.open or self.absent

    @property
    def proven(self) -> bool:
        """Shown and fixed, shown to be no defect, not in the release and not brought in, or said to be open."""
        if self.unshown:
            return self.patched.passed or not self.patched.tests
        return self.pristine.passed and (self.refuted or self.patched.passed)

    @property
    def shown(self) -> str:
        if self.open:
            return "open"
        if self.absent:
            return "not in this release"
        if self.refuted and self.pristine.passed:
            return "not a defect"
        return "yes" if self.pristine.passed else "no"

    @property
    def fixed(self) -> str:
        if (self.refuted and self.pristine.passed) or (self.unshown and not self.patched.tests):
            return "-"
        if self.absent:
            return "right" if self.patched.passed else "not"
        return "fixed" if self.patched.passed else "not"

    def as_dict(self) -> dict[str, Any]:
        verdict = {"shown": self.shown, "fixed": self.fixed, "absent": self.unshown}
        evidence = {"pristine": asdict(self.pristine), "patched": asdict(self.patched)}
        return {"defect": self.name, "title": self.title, **verdict, **evidence}


@dataclass(frozen=True)
class DefectReport:
    """What `patchset defects` found; also in build/<set>/defects.json."""

    set_name: str
    rows: tuple[Defect, ...]
    seconds: float
    log: str
    tree: str = ""  # digest of the patched tree that the tests ran on

    @property
    def ok(self) -> bool:
        """Whether there are rows, each of them proven."""
        return bool(self.rows) and all(row.proven for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        ran = {"seconds": round(self.seconds, 1), "log": self.log, "rows": [row.as_dict() for row in self.rows]}
        return {"set": self.set_name, "tree": self.tree, "ok": self.ok, **ran}


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> DefectReport:
    """Runs the tests that show defects, and writes the table; raises as `smoke.run_tests` and `facts.titles`."""
    cases, log = smoke.run_tests(
        patch_set, device="cpu", terminal=terminal, select=["-m", "defect"], log_name="defects.log", offline=offline
    )
    return record(patch_set, cases, str(log))


def keep(patch_set: PatchSet, report: SmokeReport) -> None:
    """Writes the table that a smoke run of the build tree makes, where it had every test of defects."""
    if report.tier is Tier.WHOLE and report.device == "cpu":
        record(patch_set, report.cases, report.log)


def record(patch_set: PatchSet, cases: Sequence[Case], log: str) -> DefectReport:
    report = of_cases(patch_set, cases, log)
    folder = paths.build_dir(patch_set.name)
    (folder / "defects.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def of_cases(patch_set: PatchSet, cases: Sequence[Case], log: str) -> DefectReport:
    """The table that these results of the set's own tree make."""
    absent = facts.absent(patch_set.name)
    resolved = {name for patch in series.load(patch_set.folder) for name in patch.header.resolves}
    rows = table(cases, facts.titles(), resolved, absent, facts.left_open(patch_set.name))
    return DefectReport(patch_set.name, tuple(rows), sum(case.seconds for case in cases), log, patch_set.tree)


def table(
    cases: Iterable[Case],
    titles: Mapping[str, str],
    resolved: Iterable[str],
    absent: Mapping[str, str] | None = None,
    left_open: Mapping[str, str] | None = None,
) -> list[Defect]:
    """One row for each defect that a test names, that a patch resolves, or that the release does not have. Cases
    without the property ``defect`` are left out; a defect without a title gets an empty one. `resolved` has the names
    in the patches' headers: D6 is covered where a test names D6 or D6a. `absent` and `left_open` say why the release
    does not have a defect, or the set leaves it, by name."""
    of: dict[str, list[Case]] = {}
    for case in cases:
        for name in case.properties.get("defect", "").split():
            of.setdefault(name, []).append(case)
    covered = {facts.whole(name) for name in of}
    absent, left_open = absent or {}, left_open or {}
    uncovered = {name for name in resolved if facts.whole(name) not in covered}
    names = sorted({*of, *absent, *left_open, *uncovered}, key=facts.order)
    rows = []
    for name in names:
        told = of.get(name, ())
        pristine, patched = ([case for case in told if case.properties.get("tree") == tree] for tree in _TREES)
        refuted = any("refuted" in case.properties for case in pristine)
        row = Defect(name, titles.get(name, ""), _evidence(pristine), _evidence(patched), refuted)
        rows.append(replace(row, absent=absent.get(name, ""), open=left_open.get(name, "")))
    return rows


def _evidence(cases: Sequence[Case]) -> Evidence:
    seen = [case.properties["seen"] for case in cases if case.result is Result.PASSED and "seen" in case.properties]
    tests = [
        case.function if case.result is Result.PASSED else f"{case.function}: {case.result.value}" for case in cases
    ]
    passed = bool(cases) and all(case.result is Result.PASSED for case in cases)
    return Evidence(passed, tuple(dict.fromkeys(seen)), tuple(dict.fromkeys(tests)))


def show(report: DefectReport, terminal: Terminal) -> None:
    rows = []
    for row in report.rows:
        shown = f"{row.shown}: {row.unshown}" if row.unshown else _cell(row.shown, row.pristine)
        rows.append((row.name, row.title, shown, _cell(row.fixed, row.patched)))
    terminal.table(f"defects of {report.set_name}", ("defect", "title", "shown on pristine", "patched"), rows)
    for row in report.rows:
        if not row.proven:
            tests = ", ".join((*row.pristine.tests, *row.patched.tests)) or "no test"
            terminal.note(f"{row.name} is not proven: {tests}")
    if not report.ok:
        terminal.note(f"log: {report.log}")


def _cell(verdict: str, evidence: Evidence) -> str:
    return "; ".join([f"{verdict}: {evidence.seen[0]}", *evidence.seen[1:]]) if evidence.seen else verdict
