# SPDX-License-Identifier: Apache-2.0
"""Applying at the very lines, and saying where the lines would fit; tests/fuzz compares with git on random trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HEADER, git_diff

from patchset import exact, patchfile, textdiff
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
    with pytest.raises(PatchDoesNotApply, match=why) as caught:
        exact.apply("x.patch", file, now)
    assert (caught.value.patch, caught.value.path) == ("x.patch", "a.py")
    assert "release" in caught.value.hint


def test_places_are_all_places_the_last_one_too() -> None:
    lines = exact.split(b"a\nb\na\nb\n")
    assert exact.places([b"a\n", b"b\n"], lines) == [1, 3]
    assert exact.places(lines, lines) == [1]
    assert exact.places([*lines, b"c\n"], lines) == []


@pytest.mark.parametrize(
    ("now", "where"),
    [
        ("x\n" * 2 + "line 7\nline 8\nline 9\nline 10\nx\nx\nx\n", "most alike is line 3, 4 of 7 lines"),
        ("line 7\nline 8\nline 9\n" + "x\n" * 9, "nowhere in the file"),
        (("line 7\nline 8\nline 9\nline 10\n" + "x\n" * 4) * 3, "most alike is line 9, 4 of 7 lines"),
        ("x\n" * 3 + "line 7\nline 8\nline 9\nline 10\n", "nowhere in the file"),
        ("line 7\nline 8\nline 9\nline 10\nline 11\nline 12\nx\n", "most alike is line 1, 6 of 7 lines"),
    ],
    ids=["more than half", "less than half", "the nearest of three", "cut off", "the whole file"],
)
def test_what_is_most_alike(now: str, where: str, tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 10\n", "line ten\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=f"{where}$"):
        exact.apply("x.patch", file, now.encode())


def test_a_patch_file_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.patch"
    file.write_bytes(b"0123456789")
    monkeypatch.setattr(patchfile, "LIMIT", 10)
    assert patchfile.read(file) == b"0123456789"
    file.write_bytes(b"0123456789A")
    with pytest.raises(textdiff.MalformedPatch, match=r"has 11 bytes; a patch has at most 10$") as caught:
        patchfile.read(file)
    assert (caught.value.patch, caught.value.fault) == ("x.patch", textdiff.Fault.SIZE)
    assert caught.value.message.startswith("x.patch:1: malformed patch: ")
