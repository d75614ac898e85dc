# SPDX-License-Identifier: Apache-2.0
"""smoke: the report that the table and --json are made from."""

import os
from pathlib import Path

from patchset.proof.smoke import SmokeReport, _of_sets
from patchset.proof.testrun import Case, Result


def report(*results: str) -> SmokeReport:
    cases = (Case(f"t.py::t::test_{n}", f"test_{n}", Result(result), 1.5) for n, result in enumerate(results))
    return SmokeReport("v1", "cpu", tuple(cases), "pytest.log")


def test_ok_needs_a_pass_and_no_failure() -> None:
    assert report("passed", "skipped").ok
    assert not report("passed", "failed").ok
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


def test_the_document_has_every_row() -> None:
    document = report("passed", "failed").as_dict()
    assert document["ok"] is False
    assert document["seconds"] == 3.0
    assert [row["result"] for row in document["rows"]] == ["passed", "failed"]


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
