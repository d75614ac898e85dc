# SPDX-License-Identifier: Apache-2.0
"""Runs the scripts of tests/benchmarks, and puts the rows that they measured into one report."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchset.node.errors import Findings, Unavailable, UsageError
from patchset.proof import runtime, testrun
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from selftest.bench import scaling
from selftest.bench.pairs import Row
from selftest.bench.report import BenchReport, machine

LIMIT_S = 1200.0


def result_file(set_name: str) -> Path:
    """Where the last whole run of a set is kept, from which docs/performance.md is made."""
    return paths.repo_root() / "tests" / "benchmarks" / "results" / f"{set_name}.json"


@dataclass
class Scripts:
    """The scripts of tests/benchmarks, and what they have said so far; with ``only`` it is this one that runs."""

    work: Path
    terminal: Terminal
    only: str | None = None
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(
        self, what: str, name: str, python: Path, environ: Mapping[str, str], *arguments: str | Path
    ) -> dict[str, Any]:
        """Runs a script of tests/benchmarks; its JSON document, empty if not run. Raises Findings: it failed."""
        if self.only not in (None, name):
            return {}
        self.terminal.step(what)
        tests = paths.repo_root() / "tests"
        path = os.pathsep.join(filter(None, (str(tests), environ.get("PYTHONPATH", ""))))
        out, log = self.work / f"{name}.json", self.work / f"{name}.log"
        out.unlink(missing_ok=True)
        command = [str(one) for one in (python, tests / "benchmarks" / f"{name}.py", *arguments, "--out", out)]
        environ = {**environ, "PYTHONPATH": path}
        code = testrun.watched(
            f"the runs of {name}", command, environ=environ, folder=self.work, log=log, limit=LIMIT_S
        )
        if code or not out.is_file():
            raise Findings(f"{name} ended with {code}", hint=f"read {log}")
        document: dict[str, Any] = json.loads(out.read_text())
        self.rows += [Row(**row) for row in document["rows"]]
        self.notes += document.get("notes", ())
        return document


def run(
    patch_set: PatchSet, terminal: Terminal, *, fast: bool, device: str, only: str | None, offline: bool
) -> BenchReport:
    """Runs tests/benchmarks; a whole run is kept for the document.

    ``only`` is the one script to run. Its tables then take the place of those of the last whole run, which it needs,
    and a note says so.

    Raises UsageError: the set has not been applied, or ``only`` names no script or has no whole run to stand in;
    Unavailable: the runtime could not be made, or quilt is not installed; Findings: a benchmark failed.
    """
    if only and not (paths.repo_root() / "tests" / "benchmarks" / f"{only}.py").is_file():
        raise UsageError(f"no benchmark {only}", hint="tests/benchmarks has them")
    if only and not result_file(patch_set.name).is_file():
        raise UsageError(f"{patch_set.name} has no whole run", hint=f"make bench VERSION={patch_set.name}")
    if only in (None, "applying") and shutil.which("quilt") is None:
        raise Unavailable("quilt, which apply is measured against, is not on PATH", hint="apt-get install quilt")
    began, on = time.monotonic(), machine()
    both = runtime.both(patch_set, terminal, offline=offline)
    made, standin = both.runtime, both.standin
    work = paths.build_dir(patch_set.name) / "bench"
    work.mkdir(parents=True, exist_ok=True)
    scripts = Scripts(work, terminal, only)
    least = ("--least", "10" if fast else "30")
    sizes = ("2", "8") if fast else ("2", "4", "8", "16", "32")
    pristine, patched = f"--pristine={both.pristine}", f"--patched={both.patched}"
    one_thread = {"OMP_NUM_THREADS": "1"}

    environ = made.environment(both.pristine, standin) | one_thread
    arguments = ("--overlay", both.patched, "--ranks", *sizes, *least, "--most", "20" if fast else "60")
    sync = scripts.run(f"metadata of a step, DP {', '.join(sizes)}", "collective", made.python, environ, *arguments)
    if sync:
        scripts.rows += scaling.rows(scaling.fit(scaling.samples(sync["least"]), len(os.sched_getaffinity(0))))
    path = ("--path", os.pathsep.join(map(str, (paths.repo_root() / "tests", standin, made.vllm))))
    arguments = (pristine, patched, *path, *least, *(() if fast else ("--instructions",)))
    scripts.run("host time of a step, in turns", "host_time", made.python, made.env, *arguments)
    where = (f"--vllm={made.vllm}", f"--standin={standin}", f"--work={work}", f"--set={patch_set.name}")
    arguments = (pristine, patched, *where, *least, "--runs", "1" if fast else "4")
    scripts.run("time per output token, engines in turns", "output_tokens", made.python, made.env, *arguments)
    # torch asks for the name of each client's address; a name server that does not answer is not what is measured.
    environ = made.environment(both.patched, standin) | {"RES_OPTIONS": "timeout:1 attempts:1"}
    ranks = ("--ranks", "128" if fast else "1024")
    scripts.run(f"{ranks[1]} ranks on one store", "store_requests", made.python, environ, *ranks)
    tool = Path(sys.executable)
    arguments = ("--set", patch_set.name, "--work", work, *(("--fast",) if fast else ()))
    scripts.run("apply and status, quilt push -a, git am, in turns", "applying", tool, os.environ, *arguments)
    if fast:
        scripts.notes.append("FAST=1: fewer ranks, pairs and modes; no instructions, wheels and review page.")
    else:
        scripts.run("six wheels, and wheel unpack, patch, wheel pack", "wheels", tool, os.environ, *arguments)
        scripts.run("the review page in Chromium", "review_page", tool, os.environ)
    if device == "cpu":
        scripts.notes.append(
            "What a read of a busy device costs was not measured: DEVICE=cuda does, where there is one."
        )
    else:
        environ = made.environment(both.patched) | one_thread  # the stand-in would take the device's place
        scripts.run(f"reads of a busy {device} device", "device_read", made.python, environ, "--device", device, *least)
    report = BenchReport(
        patch_set.name, on, fast, tuple(scripts.rows), tuple(scripts.notes), time.monotonic() - began
    )  # fmt: skip
    if only:
        report = BenchReport.load(result_file(patch_set.name)).with_tables_of(report)
    file = work / "bench.json" if fast else result_file(patch_set.name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    return report
