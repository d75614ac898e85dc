# SPDX-License-Identifier: Apache-2.0
"""Runs the scripts of tests/benchmarks, and puts what they measured into one report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from patchset.node.errors import Findings, Unavailable
from patchset.proof import runtime, trees
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from selftest.bench import scaling, tables
from selftest.bench.report import BenchReport, Table

LIMIT_S = 2400.0
RANKS = (2, 4, 8, 16, 32)


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> BenchReport:
    """Runs tests/benchmarks.

    Raises:
        UsageError: the set has not been applied.
        Unavailable: the runtime could not be made, or quilt is not installed.
        Findings: a benchmark failed.
    """
    if shutil.which("quilt") is None:
        raise Unavailable("quilt, which apply is measured against, is not on PATH", hint="apt-get install quilt")
    both = trees.both(patch_set, terminal, offline=offline)
    made = both.runtime
    work = paths.build_dir(patch_set.name) / "bench"
    work.mkdir(parents=True, exist_ok=True)

    terminal.step(f"metadata of a step, DP {', '.join(map(str, RANKS))}: ranks over gloo on this machine")
    ranks = [str(size) for size in RANKS]
    overlay = ["--overlay", str(both.patched), "--ranks", *ranks]
    environ = made.environment(both.pristine, runtime.standin_dir()) | {"OMP_NUM_THREADS": "1"}
    sync = _script(made.python, environ, work, "metadata_sync", overlay)
    terminal.step("time per output token, DP 2: engines of each tree in turn")
    folders = [f"--pristine={both.pristine}", f"--patched={both.patched}", f"--vllm={made.vllm}", f"--work={work}"]
    tokens = _script(made.python, made.env, work, "output_tokens", folders)
    terminal.step("1,024 ranks on one store: agreement, beats, and reading them")
    store = _script(made.python, made.environment(both.patched, runtime.standin_dir()), work, "store_requests", [])
    terminal.step("six wheels: patchset, and wheel unpack, patch, wheel pack, in turn")
    wheels = _script(Path(sys.executable), os.environ, work, "wheels", ["--set", patch_set.name, "--work", str(work)])
    terminal.step("the tool: apply and status, quilt push -a, git am, in turn")
    applying = _script(
        Path(sys.executable), os.environ, work, "applying", ["--set", patch_set.name, "--work", str(work)]
    )
    step, engines = tuple(tables.sync_rows(sync)), tuple(tables.token_rows(tokens))
    blocked, tracing = tuple(tables.blocked_rows(sync)), tuple(tables.tracing_rows(tokens))
    cost = scaling.fit(tables.samples(sync), len(os.sched_getaffinity(0)))
    report = BenchReport(
        patch_set.name,
        (
            Table("pristine", "patched", (*step, *engines)),
            Table("at-once", "after-preparation", blocked),
            Table("untraced", "traced", tracing),
            Table("what it may take; one by one", "patched", tuple(tables.store_rows(store))),
            Table("by-hand", "patchset", tuple(tables.wheel_rows(wheels))),
            Table("git, quilt, cp", "patchset", tuple(tables.applying_rows(applying))),
        ),
        cost,
        scaling.predictions(cost),
    )
    (work / "bench.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def _script(
    python: Path, environ: Mapping[str, str], work: Path, name: str, arguments: Sequence[str]
) -> dict[str, Any]:
    """Runs tests/benchmarks/<name>.py; the JSON document that it wrote."""
    script = paths.repo_root() / "tests" / "benchmarks" / f"{name}.py"
    out, log = work / f"{name}.json", work / f"{name}.log"
    out.unlink(missing_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(python), str(script), *arguments, "--out", str(out)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=work,
            env=dict(environ),
            start_new_session=True,
        )
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Findings(f"{name} took more than {LIMIT_S:.0f} s", hint=f"read {log}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code or not out.is_file():
        raise Findings(f"{name} ended with {code}", hint=f"read {log}")
    document: dict[str, Any] = json.loads(out.read_text())
    return document
