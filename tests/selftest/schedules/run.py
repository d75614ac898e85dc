# SPDX-License-Identifier: Apache-2.0
"""Runs the simulator of tests/prove on both trees of a set, in the runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from patchset.node.errors import Findings, UsageError
from patchset.proof import runtime, testrun
from patchset.proof.runtime import Trees
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from selftest.schedules import SETS
from selftest.schedules.report import Mutant, ProofReport, Violation

# More than ten times what 100,000 schedules take on one core.
LIMIT_S = 14400.0
# Schedules in which one defect of the pristine tree, or one mutant, must come up.
SEARCHED = {"pristine": 1000, "mutants": 5000}


class Model(Enum):
    PATCHED = "patched"
    PRISTINE = "pristine"
    MUTANTS = "mutants"


def simulate(both: Trees, work: Path, seed: int, model: Model, schedules: int, advance: Callable[[int], None]) -> Any:
    """One run of main.py; its document. Raises Findings: it failed, or took longer than `LIMIT_S`."""
    script = paths.repo_root() / "tests" / "prove" / "main.py"
    out, log = work / f"{model.value}.json", work / f"{model.value}.log"
    out.unlink(missing_ok=True)
    arguments = {"--schedules": schedules, "--seed": seed, "--workers": _cores(), "--out": out}
    options = [str(one) for pair in arguments.items() for one in pair]
    tree = both.pristine if model is Model.PRISTINE else both.patched
    environ = both.runtime.environment(tree, both.standin) | {"OMP_NUM_THREADS": "1"}
    command = [str(both.runtime.python), str(script), model.value, *options]
    done = 0

    def tell(line: str) -> None:
        nonlocal done
        word, _, number = line.partition(" ")
        if word == "done":
            advance(int(number) - done)
            done = int(number)

    what = f"the schedules of {model.value}"
    code = testrun.watched(what, command, environ=environ, folder=work, log=log, limit=LIMIT_S, each_line=tell)
    if code or not out.is_file():
        raise Findings(f"the simulation of {model.value} ended with {code}", hint=f"read {log}")
    return json.loads(out.read_text())


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def run(
    patch_set: PatchSet, terminal: Terminal, *, schedules: int, seed: int, only: Model | None, offline: bool
) -> ProofReport:
    """Checks the patched tree with so many schedules, and that the checker finds what it must.

    The other models have the schedules that they need; `only` is one model instead of all. The same seed draws the same
    schedules. The report is also in build/<set>/prove.json.

    Raises UsageError: the simulator does not drive the set's runner; Unavailable: the pristine tree or the runtime
    could not be made; Findings: a simulation failed.
    """
    if patch_set.name not in SETS:
        what = f"the simulator does not drive the runner of {patch_set.name}"
        raise UsageError(what, hint=f"it drives that of {', '.join(SETS)}")
    work = paths.build_dir(patch_set.name) / "prove"
    work.mkdir(parents=True, exist_ok=True)
    one_run = partial(simulate, runtime.both(patch_set, terminal, offline=offline), work, seed)
    wanted = set(Model) if only is None else {only}
    found: dict[Model, dict[str, Any]] = {}
    if Model.PATCHED in wanted:
        with terminal.progress(f"patched: {schedules:,} schedules on {_cores()} cores", schedules) as advance:
            found[Model.PATCHED] = one_run(Model.PATCHED, schedules, advance)
    if others := [model for model in (Model.PRISTINE, Model.MUTANTS) if model in wanted]:
        what = f"{' and '.join(one.value for one in others)}: what must be found"
        with terminal.progress(what, 0) as advance, ThreadPoolExecutor() as pool:
            runs = {model: pool.submit(one_run, model, SEARCHED[model.value], advance) for model in others}
            found |= {model: one.result() for model, one in runs.items()}

    said = {
        model.value: [one | {"defect": one.get("defect") or ""} for one in document["violations"]]
        for model, document in found.items()
        if model is not Model.MUTANTS
    }
    shown = msgspec.convert(said, dict[str, tuple[Violation, ...]])
    mutants = None
    if broken := found.get(Model.MUTANTS):
        mutants = tuple(msgspec.convert(one | {"name": one["mutant"]}, Mutant) for one in broken["mutants"])
    patched = found.get(Model.PATCHED, {"schedules": 0, "coverage": {}})
    violations = shown.get("patched"), shown.get("pristine")
    report = ProofReport(patch_set.name, seed, patched["schedules"], patched["coverage"], *violations, mutants)
    (paths.build_dir(patch_set.name) / "prove.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report
