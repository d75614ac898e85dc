# SPDX-License-Identifier: Apache-2.0
"""How much of the overlay its tests run, by branch: coverage.py in every process that the tests start."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchset.node.errors import Findings
from patchset.proof import uv

_SETTINGS = "settings"
LIMIT = 90.0
"""Percent of lines and branches together that the tests must run."""


@dataclass(frozen=True)
class Covered:
    """What was run."""

    percent: float  # of lines and branches together
    missing: Mapping[str, tuple[int, ...]]  # lines that were not run, for each file that has any


def begin(measured: Path, folder: Path) -> dict[str, str]:
    """Environment variables with which Python measures a folder of modules; the data goes to `folder`, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = ["[run]", f"source = {measured}", "branch = true", "parallel = true", f"data_file = {folder / 'data'}"]
    settings += ["patch = _exit"]  # ranks that are cut off
    (folder / _SETTINGS).write_text("\n".join([*settings, ""]), encoding="utf-8")
    return {"COVERAGE_PROCESS_START": str(folder / _SETTINGS)}


def end(python: Path, folder: Path) -> Covered:
    """What the processes with the variables of `begin` have run, read by a Python with coverage; raises Findings."""
    report = folder / "report.json"
    for command in (["combine", "--quiet"], ["json", "--quiet", "-o", str(report)]):
        settings = f"--rcfile={folder / _SETTINGS}"
        done = subprocess.run(
            [str(python), "-m", "coverage", *command, settings],
            env=uv.own_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            hint = "is coverage in the runtime?"
            raise Findings(f"coverage {command[0]}: {(done.stderr or done.stdout).strip()}", hint=hint)
    found = json.loads(report.read_text())
    missing = {path: tuple(file["missing_lines"]) for path, file in found["files"].items() if file["missing_lines"]}
    return Covered(found["totals"]["percent_covered"], missing)
