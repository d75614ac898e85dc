# SPDX-License-Identifier: Apache-2.0
"""Git's opinion of a series, without a commit."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World, write_tree

from patchset import history, plan
from patchset.errors import PatchDoesNotApply
from patchset.setfile import load_set

if TYPE_CHECKING:
    from pathlib import Path


def planned(world: World, upstream: Path) -> plan.Plan:
    """The plan of a world's set on a tree."""
    return plan.make(load_set(SET), lambda path: (upstream / path).read_bytes())


@pytest.fixture
def made(world: World, tmp_path: Path) -> plan.Plan:
    return planned(world, write_tree(tmp_path / "upstream", UPSTREAM))


def test_git_and_the_plan_agree_without_a_repository(made: plan.Plan, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    history.prove(tmp_path / "scratch", made)
    assert not (tmp_path / "scratch" / ".git").exists()


def test_a_repository_around_changes_nothing(made: plan.Plan, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitattributes").write_text("* text eol=crlf\n")
    (tmp_path / "scratch").mkdir()
    history.prove(tmp_path / "scratch", made)


@pytest.mark.parametrize("number", [1, 2])
def test_where_git_differs_the_patch_and_the_file_are_named(made: plan.Plan, tmp_path: Path, number: int) -> None:
    step = made.steps[number]
    path = next(iter(step.after))
    wrong = replace(step, after={**step.after, path: b"wrong = True\n"})
    lying = replace(made, steps=(*made.steps[:number], wrong, *made.steps[number + 1 :]))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(PatchDoesNotApply, match=f"{step.patch.name}: git makes another {path} of it"):
        history.prove(tmp_path / "scratch", lying)


def test_a_diff_that_git_refuses_is_named(made: plan.Plan, tmp_path: Path) -> None:
    step = made.steps[1]
    torn = replace(step, patch=replace(step.patch, diff=step.patch.diff[:-20]))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(PatchDoesNotApply, match=f"{step.patch.name}: git does not apply it"):
        history.prove(tmp_path / "scratch", replace(made, steps=(made.steps[0], torn)))


def test_attributes_among_the_files_change_no_byte(empty: World, tmp_path: Path) -> None:
    world = empty
    world.patch("0001-attributes.patch", {".gitattributes": "* text eol=crlf\n"})
    world.patch("0002-edit.patch", {f"{PACKAGE}/old.py": "old = 2\n", f"{PACKAGE}/more.py": "more = 1\n"})
    made = planned(world, write_tree(tmp_path / "upstream", UPSTREAM))
    (tmp_path / "scratch").mkdir()
    history.prove(tmp_path / "scratch", made)
