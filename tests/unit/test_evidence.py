# SPDX-License-Identifier: Apache-2.0
"""Evidence: what a whole run said, held against the tree, the tests, and a run here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SET, Capture, World

from patchset.proof import evidence, smoke
from patchset.proof.testrun import Case, Result
from patchset.sets.setfile import load_set

Says = Callable[..., None]

DEFECTS = "".join(f'{name} = "it hangs"\n' for name in ("D1", "D3"))


def case(name: str, result: Result = Result.PASSED, **properties: str) -> Case:
    return Case(f"test_all.py::test_all::{name}", name, result, 0.1, properties=properties)


CASES = [
    case("test_quick[eager, DP=2]", quick="yes", mode="eager, DP=2"),
    case("test_skipped", Result.SKIPPED),
    *(
        case(f"test_{name}_{tree}", defect=name, tree=tree, seen="hang")
        for name in ("D1", "D3")
        for tree in ("pristine", "patched")
    ),
]


@pytest.fixture
def runs(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The tests that each run of the suite was asked for; () for all. Their results are CASES', or `said`'s."""
    asked = []

    def run_tests(*_: Any, tests: tuple[str, ...], **__: Any) -> tuple[list[Case], Path]:
        asked.append(tests)
        return [one for one in CASES if not tests or one.node in tests], Path("pytest.log")

    monkeypatch.setattr(smoke, "run_tests", run_tests)
    facts = world.root / "tests" / "smoke" / "defects.toml"
    facts.parent.mkdir(parents=True)
    facts.write_text(f"[titles]\n{DEFECTS}")
    (world.root / "tests" / "standin").mkdir()
    return asked


def edit(world: World, change: Callable[[dict[str, Any]], None]) -> None:
    file = world.folder / "evidence.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_one_row_a_test(world: World, runs: list[tuple[str, ...]], capsys: Capture) -> None:
    assert world.run("evidence", SET, "--offline") == 0
    text = (world.folder / "evidence.json").read_text()
    assert runs == [()]
    document = json.loads(text)
    assert document["tree"] == load_set(SET).tree
    assert [row["test"] for row in document["rows"]] == sorted(one.node for one in CASES)
    assert text.count("\n") == 4 + 1 + len(CASES) + 2 - 1 + 1
    first = {"test": "test_all.py::test_D1_patched", "result": "passed"}
    assert document["rows"][0] == first | {"defect": "D1", "tree": "patched", "seen": "hang"}
    assert world.run("evidence", SET, "--offline") == 0
    assert (world.folder / "evidence.json").read_text() == text


def test_a_failure_is_no_evidence(world: World, runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "run_tests", lambda *_, **__: ([*CASES, case("x", Result.FAILED)], Path("log")))
    assert world.run("evidence", SET, "--offline") == 1
    assert not (world.folder / "evidence.json").exists()


def test_tests_that_change_while_they_run_give_no_evidence(
    world: World, runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def change(*_: Any, **__: Any) -> tuple[list[Case], Path]:
        (world.root / "tests" / "standin" / "more.py").write_text("")
        return CASES, Path("pytest.log")

    monkeypatch.setattr(smoke, "run_tests", change)
    assert world.run("evidence", SET, "--offline") == 1
    assert "were changed while they ran" in capsys.readouterr().err
    assert not (world.folder / "evidence.json").exists()


def test_a_check_runs_the_quick_tier_and_a_sample(world: World, runs: list[tuple[str, ...]], capsys: Capture) -> None:
    assert world.run("evidence", SET, "--offline") == 0
    assert world.run("evidence", SET, "--check", "--seed", "a", "--offline") == 0
    assert "test_all.py::test_quick[eager, DP=2]" in runs[1]
    assert len(runs[1]) == 1 + min(evidence.SAMPLE, len(CASES) - 1)
    assert "6 rows run again, 0 differ" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["another result", "a row that is no test"])
def test_a_row_that_a_run_contradicts_fails(
    world: World, runs: list[tuple[str, ...]], capsys: Capture, how: str
) -> None:
    assert world.run("evidence", SET, "--offline") == 0

    def change(document: dict[str, Any]) -> None:
        row = next(row for row in document["rows"] if "quick" in row)
        row |= {"result": "skipped"} if how == "another result" else {"test": "test_all.py::test_gone"}

    edit(world, change)
    assert world.run("evidence", SET, "--check", "--offline") == 1
    said = capsys.readouterr().out
    assert ("skipped by the evidence, passed here" if how == "another result" else "not run here") in said


@pytest.mark.parametrize("change", ["none", "tree", "tests"])
def test_evidence_of_something_else_counts_for_nothing(
    world: World, runs: list[tuple[str, ...]], capsys: Capture, change: str
) -> None:
    """The whole suite runs then, and no table is made from it."""
    if change != "none":
        assert world.run("evidence", SET, "--offline") == 0
    if change == "tree":
        edit(world, lambda document: document.update(tree="0" * 64))
    if change == "tests":
        (world.root / "tests" / "standin" / "more.py").write_text("")
    runs.clear()
    assert evidence.cases(load_set(SET)) == []
    assert world.run("evidence", SET, "--check", "--offline") == 0
    assert runs == [()]
    wanted = {"none": "there is none", "tree": "it is of tree 000000000000", "tests": "the tests or the stand-in"}
    assert wanted[change] in capsys.readouterr().err.replace("\n", " ")


def test_the_matrix_and_the_review_read_it(
    world: World, runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.run("evidence", SET, "--offline") == 0
    (world.root / "build" / SET / "defects.json").unlink()
    runs.clear()
    assert world.selftest("matrix", "--offline") == 0
    assert "D3" in (world.root / "build" / "matrix.json").read_text()
    assert world.run("review", SET, "--offline") == 0
    assert runs == []
    page = (world.root / "build" / SET / "review" / "review.md").read_text()
    assert "Not run" not in page and "hang" in page


@pytest.mark.parametrize("text", ["{", "[]", '{"set": "v", "tree": "", "tests": "", "rows": [{"test": 1}]}'])
def test_a_file_that_is_no_evidence(world: World, runs: list[tuple[str, ...]], capsys: Capture, text: str) -> None:
    (world.folder / "evidence.json").write_text(text)
    assert world.run("evidence", SET, "--check", "--offline") == 2
    assert "make evidence VERSION=v9.9.9 writes it anew" in capsys.readouterr().err


def test_the_sample_is_the_seed_s() -> None:
    rows = [case(f"test_{n}", **({"quick": "yes"} if n < 5 else {})) for n in range(100)]
    drawn = evidence.sample(rows, "a")
    assert drawn == evidence.sample(rows, "a") != evidence.sample(rows, "b")
    assert len({row.node for row in drawn}) == evidence.SAMPLE
    assert not any("quick" in row.properties for row in drawn)


def test_the_workflow_has_a_job_for_each_set() -> None:
    root = Path(__file__).resolve().parents[2]
    sets = sorted(file.parent.name for file in (root / "patches").glob("*/set.toml"))
    assert f"set: [{', '.join(sets)}]" in (root / ".github" / "workflows" / "ci.yml").read_text()
