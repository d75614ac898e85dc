# SPDX-License-Identifier: Apache-2.0
"""How much of the overlay its tests run: lines and branches, in children too, and nothing measured is no pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchset.node.errors import Findings
from selftest import coverage as overlay_coverage

MODULE = """\
def sign(number):
    if number < 0:
        return -1
    return 1
"""
IN_A_CHILD = """\
import os, half
print(half.sign(1))
if os.fork() == 0:
    half.sign(-1)
    os._exit(0)
os.wait()
"""


def run(folder: Path, script: str) -> overlay_coverage.Covered:
    (folder / "measured").mkdir()
    (folder / "measured" / "half.py").write_text(MODULE)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environ |= overlay_coverage.begin(folder / "measured", folder / "data")
    environ["PYTHONPATH"] = str(folder / "measured")
    subprocess.run([sys.executable, "-c", script], env=environ, cwd=folder, check=True)
    return overlay_coverage.end(Path(sys.executable), folder / "data")


def test_a_line_and_a_branch_that_no_test_takes(tmp_path: Path) -> None:
    found = run(tmp_path, "import half; half.sign(1)")
    assert found.percent == pytest.approx(100 * (3 + 1) / (4 + 2))  # lines and branches
    assert [(Path(path).name, lines) for path, lines in found.missing.items()] == [("half.py", (3,))]


def test_what_a_child_runs_counts_even_where_it_is_cut_off(tmp_path: Path) -> None:
    found = run(tmp_path, IN_A_CHILD)
    assert (found.percent, found.missing) == (100.0, {})


def test_a_module_that_nobody_imports_counts(tmp_path: Path) -> None:
    found = run(tmp_path, "pass")
    assert (found.percent, [*found.missing.values()]) == (0.0, [(1, 2, 3, 4)])


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    overlay_coverage.begin(tmp_path, tmp_path / "data")
    with pytest.raises(Findings, match="coverage combine: No data to combine"):
        overlay_coverage.end(Path(sys.executable), tmp_path / "data")
