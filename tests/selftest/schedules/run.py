# SPDX-License-Identifier: Apache-2.0
"""Runs the simulator of tests/prove on both trees of a set, in the runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Simulator:
    """How the simulator is started: on which trees, where its output goes, from which seed."""

    both: Trees
    work: Path
    seed: int

    def run(self, model: Model, schedules: int, workers: int, advance: Callable[[int], None]) -> dict[str, Any]:
        """One run of main.py; its document. Raises Findings: it failed, or took longer than `LIMIT_S`."""
        tree = self.both.pristine if model is Model.PRISTINE else self.both.patched
        script = paths.repo_root() / "tests" / "prove" / "main.py"
        out, log = self.work / f"{model.value}.json", self.work / f"{model.value}.log"
        out.unlink(missing_ok=True)
        arguments = {"--schedules": schedules, "--seed": self.seed, "--workers": workers, "--out": out}
        options = [str(one) for pair in arguments.items() for one in pair]
        environ = self.both.runtime.environment(tree, self.both.standin) | {"OMP_NUM_THREADS": "1"}
        command = [str(self.both.runtime.python), str(script), model.value, *options]
        done = 0

        def tell(line: str) -> None:
            nonlocal done
            word, _, number = line.partition(" ")
            if word == "done":
                advance(int(number) - done)
                done = int(number)

        what = f"the schedules of {model.value}"
        code = testrun.watched(what, command, environ=environ, folder=self.work, log=log, limit=LIMIT_S, each_line=tell)
        if code or not out.is_file():
            raise Findings(f"the simulation of {model.value} ended with {code}", hint=f"read {log}")
        document: dict[str, Any] = json.loads(out.read_text())
        return document


def run(
    patch_set: PatchSet,
    terminal: Terminal,
    *,
    schedules: int,
    seed: int,
    only: Model | None = None,
    offline: bool = False,
) -> ProofReport:
    """Checks the patched tree with so many schedules, and that the checker finds what it must.

    The other models have the schedules that they need; `only` is one model instead of all. The same seed draws the same
    schedules. The report is also in build/<set>/prove.json.

    Raises UsageError: the simulator does not drive the set's runner; Unavailable: the pristine tree or the runtime
    could not be made; Findings: a simulation failed.
    """
    if patch_set.name not in SETS:
        known = ", ".join(SETS)
        raise UsageError(
            f"the simulator does not drive the runner of {patch_set.name}", hint=f"it drives that of {known}"
        )
    work = paths.build_dir(patch_set.name) / "prove"
    work.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(runtime.both(patch_set, terminal, offline=offline), work, seed)
    cores = len(os.sched_getaffinity(0))
    wanted = set(Model) if only is None else {only}
    found: dict[Model, dict[str, Any]] = {}
    if Model.PATCHED in wanted:
        with terminal.progress(f"patched: {schedules:,} schedules on {cores} cores", schedules) as advance:
            found[Model.PATCHED] = simulator.run(Model.PATCHED, schedules, cores, advance)
    if others := [model for model in (Model.PRISTINE, Model.MUTANTS) if model in wanted]:
        with (
            terminal.progress(f"{' and '.join(one.value for one in others)}: what must be found", 0) as advance,
            ThreadPoolExecutor() as pool,
        ):
            runs = {model: pool.submit(simulator.run, model, SEARCHED[model.value], cores, advance) for model in others}
            found |= {model: one.result() for model, one in runs.items()}
    report = _report(patch_set.name, seed, found)
    (paths.build_dir(patch_set.name) / "prove.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def _report(set_name: str, seed: int, found: dict[Model, dict[str, Any]]) -> ProofReport:
    def violations(model: Model) -> tuple[Violation, ...] | None:
        return tuple(map(Violation.read, found[model]["violations"])) if model in found else None

    mutants = None
    if Model.MUTANTS in found:
        mutants = tuple(
            Mutant(
                one["mutant"],
                one["drawn"],
                one["violation"] and Violation.read(one["violation"]),
                one.get("waits", 0),
                one.get("told", 0),
                one.get("watchdog", False),
            )
            for one in found[Model.MUTANTS]["mutants"]
        )
    patched = found.get(Model.PATCHED, {"schedules": 0, "coverage": {}})
    return ProofReport(
        set_name=set_name,
        seed=seed,
        schedules=patched["schedules"],
        coverage=patched["coverage"],
        patched=violations(Model.PATCHED),
        pristine=violations(Model.PRISTINE),
        mutants=mutants,
    )
