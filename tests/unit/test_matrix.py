# SPDX-License-Identifier: Apache-2.0
"""matrix: what the runs wrote, side by side, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SET, Capture, World

from patchset.proof import defects, smoke
from patchset.proof.defects import DefectReport, table
from patchset.proof.testrun import Case, Result
from patchset.sets.setfile import load_set
from patchset.system.terminal import Terminal
from selftest import matrix

TITLES = {"D2": "it raises", "D10": "it hangs"}


def case(defect: str, tree: str, result: Result = Result.PASSED) -> Case:
    return Case(f"f::{defect}-{tree}", "test_it", result, 1.0, "", {"defect": defect, "tree": tree, "seen": "hang"})


def document(*cases: Case, absent: dict[str, str] | None = None, tree: str = "") -> dict[str, Any]:
    return DefectReport("v", tuple(table(cases, TITLES, (), absent)), 1.0, "log", tree).as_dict()


BOTH = (case("D10", "pristine"), case("D10", "patched"), case("D2", "pristine"), case("D2", "patched"))


def test_a_cell_is_what_the_run_says() -> None:
    found = matrix.make({"v1": document(*BOTH), "v2": document(*BOTH[1:], absent={"D10": "fixed by #1"})})
    assert list(found.titles) == ["D2", "D10"]
    assert {key: str(cell) for key, cell in found.cells.items()} == {
        ("D2", "v1"): "fixed",
        ("D10", "v1"): "fixed",
        ("D2", "v2"): "fixed",
        ("D10", "v2"): "not in this release (fixed by #1)",
    }
    assert found.ok


@pytest.mark.parametrize(
    "cases",
    [
        BOTH[:3],
        (*BOTH[:3], case("D2", "patched", Result.FAILED)),
        (BOTH[0], BOTH[1], case("D2", "pristine", Result.FAILED), BOTH[3]),
        BOTH[:2],
    ],
    ids=["no test on patched", "not fixed", "not shown", "no test at all"],
)
def test_a_cell_that_is_not_proven_or_not_there(cases: tuple[Case, ...]) -> None:
    found = matrix.make({"v1": document(*BOTH), "v2": document(*cases)})
    assert not found.ok
    cells = [str(found.cells.get((name, one), "no test")) for name in found.titles for one in found.sets]
    assert any(text in cell for text in ("not fixed", "not proven", "no test") for cell in cells)


def test_no_runs_prove_nothing() -> None:
    assert not matrix.make({}).ok


def test_a_run_of_the_same_tree_is_not_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    patch_set = load_set(SET)
    ran = []

    def run(patch_set: Any, terminal: Terminal, *, offline: bool) -> DefectReport:
        ran.append(patch_set.name)
        report = DefectReport(SET, tuple(table(BOTH, TITLES, ())), 1.0, "log", patch_set.tree)
        (world.root / "build" / SET / "defects.json").write_text(json.dumps(report.as_dict()))
        return report

    monkeypatch.setattr(defects, "run", run)
    assert world.selftest("matrix", "--offline") == 0
    assert world.selftest("matrix", SET) == 0
    assert ran == [SET]
    assert world.selftest("matrix", "--again") == 0
    assert ran == [SET, SET]
    other = replace(patch_set, tree="0" * 64)
    matrix.gather([other], Terminal())
    assert ran == [SET] * 3
    assert json.loads((world.root / "build" / "matrix.json").read_text())["sets"] == [SET]


def fixed(world: World) -> list[str]:
    """The defects that the matrix calls fixed."""
    rows = json.loads((world.root / "build" / "matrix.json").read_text())["defects"]
    return [row["defect"] for row in rows if row["sets"][SET]["fixed"] == "fixed"]


@pytest.mark.parametrize(
    "options", [(), ("--only", "tokens"), ("--device", "npu")], ids=["whole", "some of it", "no stand-in"]
)
def test_a_whole_smoke_run_is_one_of_the_defects(
    world: World, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    facts = world.root / "tests" / "smoke" / "defects.toml"
    facts.parent.mkdir(parents=True)
    facts.write_text('[titles]\nD1 = "it raises"\nD3 = "it hangs"\n')
    cases = [case(name, tree) for name in ("D1", "D3") for tree in ("pristine", "patched")]  # what the series resolves
    monkeypatch.setattr(smoke, "run_tests", lambda *_, **__: (cases, Path("pytest.log")))
    monkeypatch.setattr(defects, "run", lambda *_, **__: pytest.fail("the tests run once more"))
    assert world.run("smoke", SET, *options) == 0
    if options:
        assert not (world.root / "build" / SET / "defects.json").exists()
    else:
        assert world.selftest("matrix") == 0
        assert fixed(world) == ["D1", "D3"]


def test_bad_input(world: World, capsys: Capture) -> None:
    assert world.selftest("matrix", "v0") == 2
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    (world.root / "build" / SET / "defects.json").write_text("{")
    assert world.selftest("matrix") == 2
    assert "defects.json" in capsys.readouterr().err
