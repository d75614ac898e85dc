# SPDX-License-Identifier: Apache-2.0
"""The survey: deployments that are drawn, on the pristine and on the patched tree, side by side."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError
from patchset.node.manifest import sha256
from patchset.proof import runtime, smoke
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal

Row = TypeVar("Row")

WORSE = "worse"
# Files of tests/survey by which an engine answers as it does; others draw, judge and reduce.
_ASKS = "asks cost customer deployment models net online pictures pool profiled rank reading run seen server"
_DECIDE = [f"{name}.py" for name in _ASKS.split()]


@dataclass(frozen=True)
class SurveyReport:
    """What a survey found; also in build/<set>/survey.json."""

    set_name: str
    # One for each deployment: its line, its verdict, what either tree did, and the fewest departures.
    rows: tuple[dict[str, Any], ...]

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row["verdict"] != WORSE for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        return {"set": self.set_name, "ok": self.ok, "rows": list(self.rows)}


def run(
    patch_set: PatchSet, terminal: Terminal, drawn: Sequence[dict[str, str]], *, reduce: bool, offline: bool
) -> SurveyReport:
    """Runs deployments on both trees; with `reduce` looks for the fewest departures of each that is worse.

    Raises UsageError: the set has not been applied; Unavailable: no runtime; Findings: it did not come to an end.
    """
    both = runtime.both(patch_set, terminal, offline=offline)
    terminal.step(f"survey: {len(drawn)} deployments, each on both trees")
    made, work = both.runtime, paths.build_dir(patch_set.name) / "survey"
    work.mkdir(parents=True, exist_ok=True)
    tests, log = _folder().parent, work / "survey.log"
    own = manifest.digest(manifest.measure(_folder(), _DECIDE))
    command = [str(made.python), "-m", "survey.run", f"--set={patch_set.name}", *(["--reduce"] if reduce else [])]
    command += [f"--pristine={both.pristine}", f"--patched={both.patched}", f"--vllm={made.vllm}", f"--work={work}"]
    command += [f"--standin={both.standin}"]
    command += [f"--kept={smoke.kept(patch_set, made, own)}", f"--checkpoints={paths.cache_dir() / 'survey'}"]
    path = os.pathsep.join(map(str, (tests / "smoke", both.standin, made.vllm, tests)))
    environ, pipe = {**made.env, "PYTHONPATH": path}, subprocess.PIPE
    rows = []
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, env=environ, text=True) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        json.dump(list(drawn), process.stdin)
        process.stdin.close()
        for line in process.stdout:
            rows.append(json.loads(line))
            terminal.step(f"  {rows[-1]['verdict']}: {rows[-1]['line']}")
    if process.returncode or len(rows) != len(drawn):
        raise Findings(f"the survey ended with {process.returncode} after {len(rows)} deployments", hint=f"read {log}")
    report = SurveyReport(patch_set.name, tuple(rows))
    (paths.build_dir(patch_set.name) / "survey.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def show(report: SurveyReport, terminal: Terminal) -> None:
    rows = [(row["verdict"], row["line"], row["says"]["pristine"], row["says"]["patched"]) for row in report.rows]
    terminal.table(f"survey of {report.set_name}", ("verdict", "deployment", "pristine", "patched"), rows)
    counts = Counter(row["verdict"] for row in report.rows)
    seconds = sum(row[tree]["seconds"] for row in report.rows for tree in ("pristine", "patched"))
    terminal.note(
        f"{', '.join(f'{number} {verdict}' for verdict, number in counts.items())}; {seconds:.0f} s of engines"
    )
    for row in report.rows:
        if row["verdict"] == WORSE:
            terminal.note(f"make survey VERSION={report.set_name} ONLY='{row.get('fewest', row['line'])}'")


def _folder() -> Path:
    return paths.repo_root() / "tests" / "survey"


def whose_turn(rows: Sequence[Row], text: str) -> Row:
    """One of ``rows``, by a hash of ``text``.

    >>> [whose_turn("abc", commit) for commit in ("0a", "0b", "0c", "0d")]
    ['c', 'a', 'c', 'a']
    """
    return rows[int(sha256(text.encode()), 16) % len(rows)]


def deployments(
    set_name: str, *, count: int, seed: int, only: str | None, found: bool, turn: str | None
) -> list[dict[str, str]]:
    """`count` that are drawn from `seed`; or those of `only`, each a line of departures, with spaces between them.

    Or with `found` those of tests/survey/found.toml, or with `turn` one of these. Raises UsageError: `only` is none.
    """
    from survey import draw, space

    of = space.of_set(set_name)
    if only is not None:
        try:
            return [of.parse(line) for line in only.split()]
        except ValueError as error:
            raise UsageError(str(error), hint="tests/survey/space.py has the dimensions") from error
    if found or turn is not None:
        table = tomllib.loads((_folder() / "found.toml").read_text(encoding="utf-8"))
        rows = [of.parse(one["only"]) for one in table["found"] if set_name in one["sets"]]
        return rows if turn is None else [whose_turn(rows, turn)]
    return draw.draw(of, count, seed)
