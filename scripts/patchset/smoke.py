# SPDX-License-Identifier: Apache-2.0
"""The smoke tests: real vLLM with the pristine and the patched tree, on the NPU's stand-in or on NPUs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from patchset import paths, testrun, trees
from patchset.testrun import Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal
    from patchset.testrun import Case

# More than three times what the suite takes on two cores.
LIMIT_S = 1500.0

_OUTCOME = re.compile(r"(?P<test>\S+::.+?) (?P<outcome>PASSED|FAILED|ERROR|SKIPPED)\b")


@dataclass(frozen=True)
class Row:
    """One line of the smoke table.

    Attributes:
        name: what was checked.
        mode: the model, engine mode and tree that it ran on; empty where it needs none.
        result: passed, failed or skipped.
        seconds: of this check; the first one of a mode pays for starting its engine.
        why: message of a failure or skip.
    """

    name: str
    mode: str
    result: str
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class SmokeReport:
    """What `patchset smoke` found; also in build/<set>/smoke.json.

    `cases` are what the table of defects can be made from: those of a whole run on the stand-in and the build tree;
    empty for any other run.
    """

    set_name: str
    device: str
    rows: tuple[Row, ...]
    log: str
    cases: tuple[Case, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something ran and nothing failed."""
        results = [row.result for row in self.rows]
        return Result.PASSED.value in results and Result.FAILED.value not in results

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        return {
            "set": self.set_name,
            "device": self.device,
            "ok": self.ok,
            "seconds": round(self.seconds, 1),
            "log": self.log,
            "rows": [vars(row) for row in self.rows],
        }


def run(
    patch_set: PatchSet,
    *,
    device: str,
    terminal: Terminal,
    only: str | None = None,
    own: bool = False,
    offline: bool = False,
    patched: Path | None = None,
) -> SmokeReport:
    """Runs tests/smoke on the set's trees.

    Args:
        patch_set: whose trees; the patched one must have been applied, the pristine one is made.
        device: "cpu" for the NPU's stand-in, "npu" for real ones.
        terminal: where progress goes.
        only: a pytest -k expression.
        own: leave out the tests of what all sets have alike.
        offline: use the caches alone.
        patched: a folder that holds the patched package, to test in the place of the build tree.

    Raises:
        UsageError, Unavailable, Findings: as `run_tests`.
    """
    select = (["-k", only] if only else []) + (["-m", "not shared"] if own else [])
    cases, log = run_tests(
        patch_set,
        device=device,
        terminal=terminal,
        select=select,
        log_name="pytest.log",
        offline=offline,
        patched=patched,
    )
    tell_defects = tuple(cases) if device == "cpu" and not only and patched is None else ()
    report = SmokeReport(patch_set.name, device, tuple(map(_row, cases)), str(log), tell_defects)
    (paths.build_dir(patch_set.name) / "smoke.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def tests_dir() -> Path:
    """tests/smoke."""
    return paths.repo_root() / "tests" / "smoke"


def run_tests(
    patch_set: PatchSet,
    *,
    device: str,
    terminal: Terminal,
    select: Sequence[str],
    log_name: str,
    offline: bool = False,
    patched: Path | None = None,
) -> tuple[list[Case], Path]:
    """Runs the smoke tests that pytest's arguments ``select`` choose; their results, and where the log is.

    Raises:
        UsageError: the set has not been applied.
        Unavailable: the runtime could not be made.
        Findings: the tests did not come to an end.
    """
    both = trees.both(patch_set, terminal, offline=offline, patched=patched)
    made = both.runtime
    work = paths.build_dir(patch_set.name) / "smoke"
    work.mkdir(parents=True, exist_ok=True)
    log = work / log_name
    tests = tests_dir()
    command = [str(made.python), "-m", "pytest", "-v", "-c", str(tests / "pytest.ini"), str(tests)]
    command += [f"--pristine={both.pristine}", f"--patched={both.patched}", f"--vllm={made.vllm}"]
    command += [f"--work={work}", f"--device={device}", f"--set={patch_set.name}", *select]
    terminal.step(
        "smoke tests: real vLLM, data parallel, " + ("on NPUs" if device == "npu" else "on the NPU's stand-in")
    )
    cases = testrun.run(
        command, environ=made.env, folder=tests, log=log, limit=LIMIT_S, each_line=lambda line: _tell(line, terminal)
    )
    return cases, log


def show(report: SmokeReport, terminal: Terminal) -> None:
    """Prints the table, and why a check failed."""
    rows = [(row.name, row.mode, row.result, f"{row.seconds:.1f}") for row in report.rows]
    terminal.table(f"smoke tests of {report.set_name}", ("check", "mode", "result", "seconds"), rows, right="seconds")
    for row in report.rows:
        if row.result == Result.FAILED.value:
            terminal.note(f"{row.name} ({row.mode}): {_shortened(row.why)}\n")
    if not report.ok:
        terminal.note(f"log: {report.log}")


def _shortened(text: str, lines: int = 12) -> str:
    shown = text.splitlines()
    return "\n".join(shown[:lines] + ["..."] * (len(shown) > lines))


def _row(case: Case) -> Row:
    name = case.function.removeprefix("test_").replace("_", " ")
    return Row(name, case.properties.get("mode", ""), case.result.value, round(case.seconds, 1), case.why)


def _tell(line: str, terminal: Terminal) -> None:
    if found := _OUTCOME.match(line):
        function, bracket, mode = found["test"].partition("::")[2].partition("[")
        name = function.removeprefix("test_").replace("_", " ")
        terminal.step(f"  {found['outcome'].lower()}: {name}{' ' if bracket else ''}{bracket}{mode}")
