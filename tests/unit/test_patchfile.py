# SPDX-License-Identifier: Apache-2.0
"""A patch file: what it says of itself, what keeps it from being read, where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HEADER, MBOX, git_diff

from patchset.node.errors import PatchDoesNotApply
from patchset.node.manifest import sha256
from patchset.plan import misfit
from patchset.sets import patchfile
from patchset.sets.patchfile import MalformedPatch, Patch

DIFF = f"""\
diff --git a/pkg/a.py b/pkg/a.py
index {"1" * 40}..{"2" * 40} 100644
--- a/pkg/a.py
+++ b/pkg/a.py
@@ -1,3 +1,4 @@ def f():
 one
-two
+2
+2.5
 three
"""
SAID = HEADER.format(subject="Say it on\n two lines")


def read(text: str) -> patchfile.Patch:
    return patchfile.parse("0001-x.patch", text.encode())


def test_a_patch_is_read() -> None:
    patch = read(SAID + DIFF)
    assert (patch.name, patch.sha256) == ("0001-x.patch", sha256((SAID + DIFF).encode()))
    assert (patch.diff, patch.above) == (DIFF.encode(), SAID.count("\n"))
    assert (patch.added, patch.removed, patch.named) == (2, 1, {"pkg/a.py"})
    said = patch.header
    assert (said.subject, said.author) == ("Say it on two lines", "A Maintainer <maintainer@example.invalid>")
    assert said.date.isoformat() == "2026-11-02T10:00:00+00:00"
    assert said.body == "Why: because.\n\nHow: so."
    assert (said.resolves, said.get("Upstream-Status"), said.get("Bug")) == (("D1", "D3"), "Pending", "")


def test_trailers_of_other_projects_and_folded_values_are_read() -> None:
    more = "Signed-off-by: A <a@x.invalid>\nSigned-off-by: B <b@x.invalid>\n(cherry picked from commit 0123abcd)\n"
    said = read(SAID.replace("Origin: vendor\n", f"{more}Origin: vendor,\n  here\n") + DIFF).header
    assert said.get("Origin") == "vendor, here" and said.body == "Why: because.\n\nHow: so."


def test_text_that_is_not_ascii_has_the_headers_that_git_gives_it() -> None:
    mime = "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
    said = read(SAID.replace("\n\nWhy: because", f"\n{mime}\nWhy: d\u00e9j\u00e0 vu") + DIFF).header
    assert said.body.startswith("Why: d\u00e9j\u00e0 vu.")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Origin: vendor\n", "Origin:\n", "the trailer Origin is missing"),
        ("Origin: vendor\n", "Orgin: vendor\n", "'Orgin' is not known"),
        ("A Maintainer <maintainer@example.invalid>", "someone", "From must be"),
        ("Mon, 2 Nov 2026 10:00:00 +0000", "Mon, 2 Nov 2026 10:00:00 -0000", "no time zone"),
        ("Date:", "From: B <b@x.invalid>\nDate:", "the mail header From is there twice"),
        ("Date: Mon, 2 Nov 2026 10:00:00 +0000\n", "", "the mail header Date is missing"),
        ("From: A", "A", "the mail header is malformed"),
    ],
)
def test_a_malformed_header_is_refused(old: str, new: str, why: str) -> None:
    assert old in SAID
    with pytest.raises(PatchDoesNotApply, match=rf"0001-x.patch:\d+: .*{why}"):
        read(SAID.replace(old, new, 1) + DIFF)


@pytest.mark.parametrize(
    ("data", "line", "fault", "why"),
    [
        (b"", 1, "form", "does not begin with 'From 0000"),
        (b"a\nb\n", 1, "form", "does not begin with 'From 0000"),
        (b"\xff\n", 1, "encoding", "is not UTF-8"),
        (b"\na\nb\xff\n", 3, "encoding", "is not UTF-8"),
        (b"a\nb", 2, "form", "does not end with a newline"),
        (MBOX.encode() + b"a\n", 2, "form", "there is no diff"),
        (MBOX.encode() + b"a\n---\n", 3, "form", "expected `diff --git`, found '---'"),
    ],
)
def test_a_file_that_is_no_patch_is_refused(data: bytes, line: int, fault: str, why: str) -> None:
    with pytest.raises(MalformedPatch, match=why) as caught:
        patchfile.parse("0001-x.patch", data)
    assert (caught.value.patch, caught.value.line, caught.value.fault) == ("0001-x.patch", line, fault)
    assert caught.value.exit_code == 3


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
