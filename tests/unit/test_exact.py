# SPDX-License-Identifier: Apache-2.0
"""Applying at the very lines, and saying where the lines would fit; tests/fuzz compares with git on random trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HEADER, git_diff

from patchset import exact, patchfile
from patchset.errors import PatchDoesNotApply
from patchset.textdiff import FilePatch

LINES = "".join(f"line {n}\n" for n in range(1, 21))


def patch_of(before: dict[str, str], after: dict[str, str], scratch: Path) -> patchfile.Patch:
    return patchfile.parse("x.patch", (HEADER.format(subject="x") + git_diff(before, after, scratch)).encode())


def single(before: str, after: str, tmp_path: Path) -> FilePatch:
    return patch_of({"a.py": before}, {"a.py": after}, tmp_path / "scratch").files[0]


@pytest.mark.parametrize(
    ("now", "where"),
    [
        ("new first\n" + LINES, r"they stand at line 8 \(offset \+1\)"),
        (LINES.removeprefix("line 1\n"), r"they stand at line 6 \(offset -1\)"),
        ("new first\n" + LINES + LINES, r"they stand at line 8 \(offset \+1\) and 1 other place$"),
        (LINES.replace("line 8\n", "line eight\n"), "nowhere exactly; most alike is line 7, 6 of 7 lines"),
        ("something else\n", "nowhere in the file"),
        ("", "nowhere in the file"),
    ],
    ids=["later", "earlier", "twice", "one line differs", "another file", "an empty file"],
)
def test_a_misfit_says_where_it_would_fit(now: str, where: str, tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 10\n", "line ten\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=rf"(?m)where the lines would fit: {where}") as caught:
        exact.apply("x.patch", file, now.encode())
    assert (caught.value.patch, caught.value.path, caught.value.hunk, caught.value.exit_code) == (
        "x.patch",
        "a.py",
        1,
        3,
    )
    assert "expected:" in caught.value.message and "found:" in caught.value.message


def test_the_second_hunk_is_named(tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 2\n", "").replace("line 18\n", "x\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=r"a\.py, hunk 2 of 2, line 17") as caught:
        exact.apply("x.patch", file, LINES.replace("line 17\n", "line seventeen\n").encode())
    assert "   17 | line 17" in caught.value.message and "   17 | line seventeen" in caught.value.message


def test_a_missing_newline_at_the_end_is_a_difference(tmp_path: Path) -> None:
    file = single("a\nb\n", "a\nc\n", tmp_path)
    with pytest.raises(PatchDoesNotApply, match="no newline"):
        exact.apply("x.patch", file, b"a\nb")


@pytest.mark.parametrize(
    ("before", "after", "now", "why"),
    [
        ({}, {"a.py": "x\n"}, b"x\n", "a.py is there already"),
        ({"a.py": "x\n"}, {}, None, "a.py is not there"),
        ({"a.py": "x\n"}, {"a.py": "y\n"}, None, "a.py is not there"),
        ({"a.py": "x\n"}, {}, b"x\ny\n", "the hunk ends the file and 1 more line follow"),
    ],
)
def test_a_file_that_should_not_or_should_be_there(
    before: dict[str, str], after: dict[str, str], now: bytes | None, why: str, tmp_path: Path
) -> None:
    file = patch_of(before | {"keep": ""}, after | {"keep": ""}, tmp_path / "scratch").files[0]
    with pytest.raises(PatchDoesNotApply, match=why):
        exact.apply("x.patch", file, now)
