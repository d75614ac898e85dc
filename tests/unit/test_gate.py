# SPDX-License-Identifier: Apache-2.0
"""apply's gate: the quick smoke tests run whenever the very tree has no pass, and what was not tested is said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import SET, Capture, World

from patchset.node.errors import Unavailable
from patchset.proof import gate, settle, smoke
from patchset.proof.gate import Tier
from patchset.proof.testrun import Case, Result

pytestmark = pytest.mark.untested


@dataclass
class Suite:
    """In the place of the engines: what a run of the smoke tests is told to do, and what it says.

    Attributes:
        results: of the next run; an exception is raised.
        ran: pytest's arguments and the patched folder of each run.
    """

    results: Sequence[Result] | BaseException = (Result.PASSED,)
    ran: list[tuple[list[str], Path | None]] = field(default_factory=list)

    def __call__(self, *_: Any, select: list[str], patched: Path | None, **__: Any) -> tuple[list[Case], Path]:
        self.ran.append((select, patched))
        if isinstance(self.results, BaseException):
            raise self.results
        cases = [Case(f"t.py::t::test_{n}", f"test_{n}", result, 0.1) for n, result in enumerate(self.results)]
        return cases, Path("pytest.log")


@pytest.fixture
def suite(world: World, monkeypatch: pytest.MonkeyPatch) -> Suite:
    made = Suite()
    monkeypatch.setattr(smoke, "run_tests", made)
    tests = world.root / "tests" / "smoke"
    tests.mkdir(parents=True)
    (tests / "test_one.py").write_text("")
    (tests / "defects.toml").write_text("[titles]\n")
    return made


def test_a_pass_holds_for_the_same_tree(world: World, suite: Suite, capsys: Capture) -> None:
    assert world.run("apply", SET) == 0
    assert "passed the quick tier; `make smoke VERSION=v9.9.9` runs all" in capsys.readouterr().out
    assert suite.ran == [(["--quick", "-m", "not shared"], None)]
    assert world.run("apply", SET) == 0
    assert world.run("apply", SET, "--no-smoke") == 0
    assert len(suite.ran) == 1
    assert world.run("status", SET) == 0
    assert "smoke tests passed: quick on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("failure", [(Result.PASSED, Result.FAILED), (), KeyboardInterrupt()], ids=str)
def test_a_failure_is_not_forgotten(
    world: World, suite: Suite, failure: Sequence[Result] | BaseException, capsys: Capture
) -> None:
    """A test fails, none runs, or the run is cut off: each apply tries again, until one passes."""
    suite.results = failure
    wanted = 130 if isinstance(failure, BaseException) else 1
    assert world.run("apply", SET) == wanted
    assert world.run("apply", SET) == wanted
    assert len(suite.ran) == 2
    assert world.run("apply", SET, "--no-smoke") == 1
    assert world.run("status", SET) == 0
    assert f"not smoke-tested (next: make apply VERSION={SET})" in capsys.readouterr().out
    suite.results = (Result.PASSED,)
    assert world.run("apply", SET) == 0


def test_a_later_failure_takes_the_pass_back(world: World, suite: Suite) -> None:
    assert world.run("apply", SET) == 0
    suite.results = (Result.FAILED,)
    assert world.run("smoke", SET) == 1
    assert world.run("apply", SET) == 1


def test_without_smoke_tests_that_is_said(world: World, suite: Suite, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["result"] == "applied" and document["smoke"]["passed"] is False
    assert document["smoke"]["said"].startswith("not smoke-tested, as asked; `make apply VERSION=v9.9.9`")
    assert suite.ran == []
    assert world.run("apply", SET) == 0  # nothing to do, and yet the tests run
    assert len(suite.ran) == 1


def test_what_keeps_the_tests_from_running_is_said(world: World, suite: Suite, capsys: Capture) -> None:
    suite.results = Unavailable("no torch to be had\n  log: there", hint="check the network")
    assert world.run("apply", SET) == 1
    out, err = capsys.readouterr()
    assert "not smoke-tested: no torch to be had; then `make apply VERSION=v9.9.9`" in out
    assert "check the network" in err
    assert world.tree.is_dir()


@pytest.mark.parametrize("change", ["tree", "tests", "device"])
def test_a_pass_is_of_a_tree_of_tests_and_of_a_device(world: World, suite: Suite, change: str) -> None:
    assert world.run("apply", SET) == 0
    device = "npu" if change == "device" else "cpu"
    if change == "tests":
        (world.root / "tests" / "smoke" / "test_one.py").write_text("assert True\n")
    if change == "tree":
        world.overlay({"tiny_ascend/data_parallel/plan.py": "answer = 43\n"})
        assert world.run("pin", SET, "--offline") == 0
    assert world.run("apply", SET, "--device", device) == 0
    assert len(suite.ran) == 2


@pytest.mark.parametrize(("about", "due"), [("v8.8.8", False), (SET, True)])
def test_facts_of_another_set_change_nothing(world: World, suite: Suite, about: str, due: bool) -> None:
    facts = world.root / "tests" / "smoke" / "defects.toml"
    facts.write_text('[titles]\n[absent."v8.8.7"]\n')
    assert world.run("apply", SET) == 0
    facts.write_text(f'[titles]\n[absent."{about}"]\nD1 = "it never hung"\n')
    assert world.run("apply", SET, "--no-smoke") == (1 if due else 0)


@pytest.mark.parametrize("part", ["smoke", "standin"])
@pytest.mark.parametrize(("folder", "due"), [("v8.8.8", False), (SET, True), ("more", True), ("v8.8.8-more", True)])
def test_a_folder_with_a_set_s_name_is_that_set_s(
    world: World, suite: Suite, part: str, folder: str, due: bool
) -> None:
    own = world.root / "tests" / part / folder
    own.mkdir(parents=True)
    assert world.run("apply", SET) == 0
    (own / "job.py").write_text("assert True\n")
    assert world.run("apply", SET, "--no-smoke") == (1 if due else 0)


def test_a_whole_run_counts_and_a_part_does_not(world: World, suite: Suite, capsys: Capture) -> None:
    assert world.run("smoke", SET, "--only", "tokens") == 0
    assert world.run("apply", SET, "--no-smoke") == 1
    suite.ran.clear()
    assert world.run("smoke", SET) == 0
    assert world.run("apply", SET) == 0
    assert "has passed the whole suite" in capsys.readouterr().out
    assert len(suite.ran) == 1


def test_in_place(world: World, suite: Suite, tmp_path: Path) -> None:
    """A checkout and an installation: the package there is tested, found by its own or by upstream's metadata."""
    for target, metadata in (
        (world.checkout(tmp_path / "checkout"), "tiny_ascend.egg-info"),
        (world.site_packages(tmp_path / "site"), "tiny_ascend-9.9rc1.dist-info"),
    ):
        suite.ran.clear()
        assert world.run("apply", SET, "--offline", "--target", str(target)) == 0
        folder = suite.ran[0][1]
        assert folder is not None and {entry.name for entry in folder.iterdir()} == {"tiny_ascend", metadata}
        assert (folder / "tiny_ascend" / "runner.py").resolve() == target / "tiny_ascend" / "runner.py"
        assert (folder / metadata / "entry_points.txt").is_file() or metadata.endswith("dist-info")
        assert world.run("apply", SET, "--offline", "--target", str(target)) == 0
        assert len(suite.ran) == 1
        assert world.run("revert", SET, "--offline", "--target", str(target)) == 0


def test_what_is_written_down_may_be_anything(world: World) -> None:
    file = world.root / "build" / SET / "passed.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    about = gate.subject(SET, "0" * 64, "cpu")
    for text in ("", "{", "[1]", '[{"tree": "x"}]'):
        file.write_text(text)
        assert gate.passed(SET, about) is None
    gate.note(SET, about, Tier.QUICK, ok=True)
    assert gate.passed(SET, about) is Tier.QUICK
    for number in range(30):
        gate.note(SET, gate.subject(SET, str(number), "cpu"), Tier.WHOLE, ok=True)
    assert len(json.loads(file.read_text())) == 20


def test_a_dry_run_tests_nothing(world: World, suite: Suite) -> None:
    assert world.run("apply", SET, "--dry-run") == 0
    assert suite.ran == [] and settle.Tested(True, None, "x").as_dict()["run"] is None
