# SPDX-License-Identifier: Apache-2.0
"""`make prove`: what it refuses, and when its findings are a proof."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from patchset.system import paths
from patchset.system.terminal import Terminal
from selftest import schedules
from selftest.__main__ import main
from selftest.schedules.report import DETECTION, Mutant, ProofReport, Violation, show

FOUND = Violation("ranks issue different collectives", "rank 0 issues a, rank 1 b", ("DP 2", "step 1: idle"), 7, "D1")


def report(**changed: object) -> ProofReport:
    """A proof, but for what is changed."""
    pristine = tuple(Violation(FOUND.invariant, "", ("DP 2",), 3, defect) for defect in ("D1", "D3", "D4"))
    fields: dict[str, object] = {
        "set_name": "v0.10.1.1",
        "seed": 0,
        "schedules": 10,
        "coverage": {"events": {"idle": 3, "decode": 12}},
        "patched": (),
        "pristine": pristine,
        "mutants": (Mutant("no flag", 5, FOUND, waits=4, told=3),),
    }
    return ProofReport(**fields | changed)  # type: ignore[arg-type]


def test_a_clean_tree_with_everything_else_found_is_a_proof(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(), Terminal())
    out = capsys.readouterr().out
    assert report().ok
    assert "no schedule violates an invariant" in out
    assert "decode" in out
    assert "FAILED" not in out
    assert "3 of 4" in out


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"patched": (FOUND,)}, "the patched tree: ranks issue different collectives: rank 0 issues a, rank 1 b"),
        ({"pristine": (FOUND,)}, "D3 was not found on the pristine tree"),
        ({"mutants": (Mutant("no flag", 5000, None),)}, "not found: no flag"),
        (
            {"mutants": (Mutant("no flag", 5, replace(FOUND, invariant=DETECTION, what="it went on")),)},
            f"no flag: {DETECTION}: it went on",
        ),
    ],
    ids=["violation", "defect not found", "mutant not found", "wrong verdict"],
)
def test_what_keeps_it_from_being_a_proof_is_said(
    changed: dict[str, object], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = report(**changed)
    show(one, Terminal())
    assert not one.ok
    assert problem in one.problems
    assert f"FAILED: {problem}" in capsys.readouterr().out


def test_a_broken_watchdog_must_be_wrong_about_a_wait() -> None:
    wrong = replace(FOUND, invariant=DETECTION)
    assert report(mutants=(Mutant("calls all", 1, wrong, watchdog=True),)).ok
    assert report(mutants=(Mutant("calls all", 5000, None, watchdog=True),)).problems == ["not found: calls all"]


def test_each_set_has_defects_of_its_own_to_be_found() -> None:
    assert set(schedules.SETS) <= {folder.parent.name for folder in (paths.repo_root() / "patches").glob("*/set.toml")}
    found = report().pristine
    for name in schedules.SETS:
        known = set(schedules.MUST_FIND[name]) <= {"D1", "D3", "D4"}
        assert report(set_name=name, pristine=found).ok == known


def test_a_violation_is_shown_with_its_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(patched=(FOUND,)), Terminal())
    assert "    step 1: idle" in capsys.readouterr().out


def test_models_that_were_not_asked_for_are_none_of_its_problems() -> None:
    assert report(pristine=None, mutants=None).ok
    assert report(patched=None, mutants=None).ok


def test_the_document_is_json() -> None:
    assert json.loads(json.dumps(report().as_dict()))["mutants"][0]["violation"]["after"] == 7


@pytest.mark.parametrize(
    "arguments", [["--schedules", "0"], ["--schedules", "many"], ["--seed", "-1"], ["--model", "upstream"]]
)
def test_bad_numbers_and_models_are_usage_errors_that_name_what_is_allowed(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prove", "v0.10.1.1", *arguments]) == 2
    said = capsys.readouterr().err
    assert repr(arguments[1]) in said
    assert "or more" in said or "patched" in said
