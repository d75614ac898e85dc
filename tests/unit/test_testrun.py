# SPDX-License-Identifier: Apache-2.0
"""testrun: a real pytest run, bounded and read back."""

import os
import sys
import time
from pathlib import Path

import pytest

from patchset.node.errors import Findings
from patchset.proof import testrun
from patchset.proof.testrun import Result

CASES = """
import pytest, subprocess, sys, time
def test_passes(record_property):
    record_property("mode", "eager")
@pytest.mark.parametrize("x", [1])
def test_fails(x):
    assert x == 2
def test_skips():
    pytest.skip("no device")
@pytest.fixture
def broken():
    raise RuntimeError("setup")
def test_errors(broken): ...
"""


def run(folder: Path, text: str, limit: float = 60.0, lines: list[str] | None = None) -> list[testrun.Case]:
    (folder / "test_it.py").write_text(text)
    return testrun.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            "--rootdir",
            str(folder),
            "-v",
            ".",
        ],
        environ=os.environ,
        folder=folder,
        log=folder / "out.log",
        limit=limit,
        each_line=(lines if lines is not None else []).append,
    )


def test_every_case_is_read_back(tmp_path: Path) -> None:
    lines: list[str] = []
    cases = {case.name: case for case in run(tmp_path, CASES, lines=lines)}
    assert {name: case.result for name, case in cases.items()} == {
        "test_passes": Result.PASSED,
        "test_fails[1]": Result.FAILED,
        "test_skips": Result.SKIPPED,
        "test_errors": Result.FAILED,
    }
    assert cases["test_passes"].properties == {"mode": "eager"}
    assert cases["test_skips"].why == "no device"
    assert "assert 1 == 2" in cases["test_fails[1]"].why
    assert cases["test_passes"].id.startswith("test_it.py::")
    assert any("PASSED" in line for line in lines)
    assert "PASSED" in (tmp_path / "out.log").read_text()


def test_a_hang_is_ended_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child.pid"
    text = f"""
import subprocess, sys, time, pathlib
def test_hangs():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path({str(child)!r}).write_text(str(child.pid))
    time.sleep(600)
"""
    for limit in (3, 10, 30):
        with pytest.raises(Findings, match=f"more than {limit} s") as caught:
            run(tmp_path, text, limit=float(limit))
        if child.exists():  # a busy machine had not come so far
            break
    assert "test_it.py::test_hangs" in str(caught.value)
    # Killed, but on a busy machine not gone at once.
    deadline = time.monotonic() + 10.0
    while _alive(int(child.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(int(child.read_text()))


def test_no_report_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "out.xml").write_text("<testsuites><testcase name='stale'/></testsuites>")
    with pytest.raises(Findings, match="no report") as caught:
        testrun.run(
            [sys.executable, "-c", "raise SystemExit(3)"],
            environ=os.environ,
            folder=tmp_path,
            log=tmp_path / "out.log",
            limit=30.0,
        )
    assert str(tmp_path / "out.log") in caught.value.hint


def _alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
