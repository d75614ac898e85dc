# SPDX-License-Identifier: Apache-2.0
"""Saying where a patch does not fit, and where its lines would."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HEADER, git_diff

from patchset.node.errors import PatchDoesNotApply
from patchset.plan import misfit
from patchset.sets import patchfile
from patchset.sets.patchfile import Patch

NO_NEWLINE = "\\ No newline at end of file"
SEVEN = "".join(f"line {n}\n" for n in range(7, 14))
LINES = "".join(f"line {n}\n" for n in range(1, 21))


def patch_of(before: dict[str, str], after: dict[str, str], scratch: Path) -> patchfile.Patch:
    return patchfile.parse("x.patch", (HEADER.format(subject="x") + git_diff(before, after, scratch)).encode())


def single(before: str, after: str, tmp_path: Path) -> Patch:
    return patch_of({"a.py": before}, {"a.py": after}, tmp_path / "scratch")


def look(patch: Patch, now: bytes | None) -> None:
    """Raises where the patch does not fit a.py with this content."""
    if error := misfit.find(patch, {"a.py": now}.get):
        raise error


@pytest.mark.parametrize(
    ("now", "where"),
    [
        ("new first\n" + LINES, r"they stand at line 8 \(offset \+1\)$"),
        (LINES.removeprefix("line 1\n"), r"they stand at line 6 \(offset -1\)$"),
        (("7\n" * 7).join(["", SEVEN, SEVEN]), r"they stand at line 8 \(offset \+1\) and 1 other place$"),
        ("x\n" + SEVEN * 3, r"they stand at line 9 \(offset \+2\) and 2 other places$"),
        (LINES.replace("line 8\n", "line eight\n"), "nowhere exactly; most alike is line 7, 6 of 7 lines"),
        (("line 7\nline 8\nline 9\nline 10\n" + "x\n" * 4) * 3, "nowhere exactly; most alike is line 9, 4 of 7 lines"),
        ("line 7\nline 8\nline 9\n" + "x\n" * 9, "nowhere in the file"),
        ("line 7\n", "nowhere in the file"),
        ("", "nowhere in the file"),
    ],
)
def test_a_misfit_says_where_it_would_fit(now: str, where: str, tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 10\n", "line ten\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=rf"(?m)where the lines would fit: {where}") as caught:
        look(file, now.encode())
    error = caught.value
    assert (error.patch, error.path, error.hunk, error.exit_code) == ("x.patch", "a.py", 1, 3)


def test_the_second_hunk_is_named(tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 2\n", "").replace("line 18\n", "x\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=r"a\.py, hunk 2 of 2, line 17") as caught:
        look(file, LINES.replace("line 17\n", "line seventeen\n").encode())
    assert "   17 | line 17" in caught.value.message and "   17 | line seventeen" in caught.value.message


@pytest.mark.parametrize(
    ("before", "after", "now", "why"),
    [
        ({}, {"a.py": "x\n"}, b"x\n", "a.py is there already"),
        ({"a.py": "x\n"}, {}, None, "a.py is not there"),
        ({"a.py": "x\n"}, {"a.py": "y\n"}, None, "a.py is not there"),
        ({"a.py": "x\n"}, {}, b"x\ny\n", "the hunk ends the file, which goes on for 1 line"),
        ({"a.py": "x\n"}, {}, b"x\ny\nz\n", "the hunk ends the file, which goes on for 2 lines"),
        ({"a.py": ""}, {}, b"x\ny\n", "a.py is deleted by the patch, but has 2 lines more than the patch knows"),
    ],
)
def test_a_file_that_should_not_or_should_be_there(
    before: dict[str, str], after: dict[str, str], now: bytes | None, why: str, tmp_path: Path
) -> None:
    file = patch_of(before | {"keep": ""}, after | {"keep": ""}, tmp_path / "scratch")
    with pytest.raises(PatchDoesNotApply, match=why) as caught:
        look(file, now)
    assert (caught.value.patch, caught.value.path) == ("x.patch", "a.py")
    assert "release" in caught.value.hint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LINES, LINES.replace("line 2\n", "").replace("line 10\n", "ten\n10\n").replace("line 18\n", "x\n")),
        (LINES, "first\n" + LINES + "last\n"),
        (LINES.removesuffix("\n"), LINES + "last\n"),
        ("a\r\nb\r\n", "a\r\nc\nb\r\n"),
        ("", "a\nb\n"),
        (None, "a\nb"),
        ("a\nb", None),
        ("", None),
    ],
)
def test_an_edit_that_git_made_fits(before: str | None, after: str | None, tmp_path: Path) -> None:
    trees = [{} if text is None else {"a.py": text} for text in (before, after)]
    look(patch_of(*trees, tmp_path / "scratch"), None if before is None else before.encode())


def hunks(*lines: str) -> Patch:
    """An edit of a.py by these hunks, written as a person could: git makes none without context."""
    names = ("diff --git a/a.py b/a.py", f"index {'1' * 40}..{'2' * 40} 100644", "--- a/a.py", "+++ b/a.py")
    text = "".join(f"{line}\n" for line in (*names, *lines))
    return patchfile.parse("x.patch", (HEADER.format(subject="x") + text).encode())


def test_a_hunk_without_context_is_of_the_end_of_the_file() -> None:
    file = hunks("@@ -3,0 +4 @@", "+d")
    look(file, b"a\nb\nc\n")
    with pytest.raises(PatchDoesNotApply, match=r"fit: here, but the hunk ends the file, which goes on for 1 line$"):
        look(file, b"a\nb\nc\nx\n")
    with pytest.raises(PatchDoesNotApply, match=r"fit: nowhere in the file$"):
        look(file, b"a\nb\n")


def test_a_misfit_shows_the_lines_around_the_first_that_differs(tmp_path: Path) -> None:
    before = "".join(f"line {n}\n" for n in range(1, 31))
    removed = before.replace("".join(f"line {n}\n" for n in range(6, 25)), "")
    file = single(before, removed, tmp_path)
    now = before.replace("line 9\n", "l\u00efne\n").encode().replace("\u00ef".encode(), b"\xef")
    with pytest.raises(PatchDoesNotApply) as caught:
        look(file, now)
    around = [f"   {n:>5} | line {n}" for n in range(6, 18)]
    assert caught.value.message.splitlines() == [
        "x.patch does not apply: a.py, hunk 1 of 1, line 9",
        "  expected:",
        *(f" {line}" for line in around),
        "  found:",
        *(f" {line}".replace("line 9", "l\ufffdne") for line in around),
        "  where the lines would fit: nowhere exactly; most alike is line 3, 24 of 25 lines",
    ]


def test_a_misfit_of_what_ends_the_file_shows_all_of_it() -> None:
    file = hunks("@@ -2,2 +2 @@", "-b ", "-c", NO_NEWLINE, "+d")
    with pytest.raises(PatchDoesNotApply) as caught:
        look(file, b"a\nb \nc\n")
    assert caught.value.message.splitlines() == [
        "x.patch does not apply: a.py, hunk 1 of 1, line 3",
        "  expected:",
        "        2 | b ",
        "        3 | c  (no newline)",
        "  found:",
        "        2 | b ",
        "        3 | c",
        "  where the lines would fit: nowhere exactly; most alike is line 2, 1 of 2 lines",
    ]
    with pytest.raises(PatchDoesNotApply, match=r"(?s)line 2\n.*\(the file ends before\)"):
        look(hunks("@@ -2 +2 @@", "-b", "+d"), b"a\n")
