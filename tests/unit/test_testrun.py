# SPDX-License-Identifier: Apache-2.0
"""testrun: a real pytest run, bounded and read back; the report that smoke makes of it."""

import os
import sys
import time
from pathlib import Path

import pytest

from patchset.node.errors import Findings
from patchset.proof import testrun
from patchset.proof.smoke import SmokeReport, _of_sets
from patchset.proof.testrun import Case, Result

PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
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
        [*PYTEST, "-c", os.devnull, "--rootdir", str(folder), "-v", "."],
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


def report(*results: str) -> SmokeReport:
    cases = (Case(f"t.py::t::test_{n}", f"test_{n}", Result(result), 1.5) for n, result in enumerate(results))
    return SmokeReport("v1", "cpu", tuple(cases), "pytest.log")


def test_ok_needs_a_pass_and_no_failure() -> None:
    assert report("passed", "skipped").ok
    document = report("passed", "failed").as_dict()
    assert (document["ok"], document["seconds"]) == (False, 3.0)
    assert [row["result"] for row in document["rows"]] == ["passed", "failed"]
    assert not report("skipped").ok
    assert not report().ok


def test_a_row_is_named_for_people() -> None:
    case = Case("id", "test_tokens_equal_reference[eager]", Result.PASSED, 1.26, "", {"mode": "eager, DP=2"})
    (row,) = SmokeReport("v1", "cpu", (case,), "pytest.log").as_dict()["rows"]
    assert row == {
        "name": "tokens equal reference",
        "mode": "eager, DP=2",
        "result": "passed",
        "seconds": 1.3,
        "why": "",
    }


def test_a_folder_of_few_sets_is_no_other_set_s(tmp_path: Path) -> None:
    for name in ("v8", "v0.1.0", "v0.2.0", "v0.1.0+v0.2.0"):
        (tmp_path / name).mkdir()
    (tmp_path / "v0.1.0" / "for_this_set.py").touch()
    of_both = tmp_path / "v0.1.0+v0.2.0"
    (of_both / "for_these_sets.py").touch()
    ignored = [f"--ignore={tmp_path / name}" for name in ("v0.1.0", of_both.name, "v0.2.0")]
    assert _of_sets(tmp_path, "v0.3.0") == (ignored, {})
    arguments, variables = _of_sets(tmp_path, "v0.1.0")
    assert arguments == [f"--ignore={tmp_path / 'v0.2.0'}", "-p", "for_this_set", "-p", "for_these_sets"]
    assert variables == {"PYTHONPATH": os.pathsep.join((str(tmp_path / "v0.1.0"), str(of_both)))}
    assert _of_sets(tmp_path, "v0.2.0")[0] == [f"--ignore={tmp_path / 'v0.1.0'}", "-p", "for_these_sets"]
