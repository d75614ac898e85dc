# SPDX-License-Identifier: Apache-2.0
"""The patch reader: what it takes, and each thing that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset import patchfile
from patchset.errors import PatchDoesNotApply
from patchset.manifest import sha256
from patchset.textdiff import Fault, MalformedPatch

HEADER = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A Maintainer <maintainer@example.invalid>
Date: Mon, 02 Nov 2026 10:00:00 +0000
Subject: [PATCH 1/2] Say it on
 two lines
Resolves: D1, D3
Origin: vendor
Upstream-Status: Backport [abc]
Removal-Plan: when upstream does the same

Why: because.
"""
OLD, NEW, ZERO = "1" * 40, "2" * 40, "0" * 40
DIFF = f"""\
diff --git a/pkg/a.py b/pkg/a.py
index {OLD}..{NEW} 100644
--- a/pkg/a.py
+++ b/pkg/a.py
@@ -1,3 +1,4 @@ def f():
 one
-two
+2
+2.5
 three
@@ -10 +11,2 @@
 ten
+eleven
"""
CREATE = f"""\
diff --git a/pkg/new.py b/pkg/new.py
new file mode 100755
index {ZERO}..{NEW}
--- /dev/null
+++ b/pkg/new.py
@@ -0,0 +1 @@
+new
"""
DELETE = f"""\
diff --git a/pkg/old.py b/pkg/old.py
deleted file mode 100644
index {OLD}..{ZERO}
--- a/pkg/old.py
+++ /dev/null
@@ -1 +0,0 @@
-old
"""
EMPTY = f"""\
diff --git a/pkg/__init__.py b/pkg/__init__.py
new file mode 100644
index {ZERO}..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
"""


ABOVE = -HEADER.count("\n") - 1  # the first line of the patch file, counted from the first one of the diff
NO_NEWLINE = "\\ No newline at end of file"


def edit(*lines: str) -> str:
    """The diff of one edited file with these lines as its hunks, the first of which is its fifth line."""
    names = ("diff --git a/p b/p", f"index {OLD}..{NEW} 100644", "--- a/p", "+++ b/p")
    return "".join(f"{line}\n" for line in (*names, *lines))


def read(diff: str, header: str = HEADER) -> patchfile.Patch:
    return patchfile.parse("0001-x.patch", f"{header}---\n\n{diff}".encode())


def test_a_patch_is_read_whole() -> None:
    patch = read(DIFF + CREATE + DELETE + EMPTY)
    data = f"{HEADER}---\n\n{DIFF + CREATE + DELETE + EMPTY}".encode()
    assert (patch.name, patch.sha256) == ("0001-x.patch", sha256(data))
    assert [file.path for file in patch.files] == ["pkg/a.py", "pkg/new.py", "pkg/old.py", "pkg/__init__.py"]
    first = data.count(b"\n", 0, data.index(b"diff --git")) + 1
    assert [file.line for file in patch.files] == [first, first + 13, first + 20, first + 27]
    assert [(file.old_blob, file.new_blob) for file in patch.files[:3]] == [(OLD, NEW), (ZERO, NEW), (OLD, ZERO)]
    assert (patch.added, patch.removed) == (4, 2)
    changed, empty = patch.files[0], patch.files[3]
    assert changed.hunks[0].old == (b"one\n", b"two\n", b"three\n")
    assert changed.hunks[0].new == (b"one\n", b"2\n", b"2.5\n", b"three\n")
    assert [(hunk.old_start, hunk.new_start) for hunk in changed.hunks] == [(1, 1), (10, 11)]
    assert [hunk.line - changed.line for hunk in changed.hunks] == [4, 10]
    assert [(hunk.added, hunk.removed, hunk.ends) for hunk in changed.hunks] == [(2, 1, False), (1, 0, True)]
    kinds = [(file.creates, file.deletes) for file in patch.files]
    assert kinds == [(False, False), (True, False), (False, True), (True, False)]
    assert [file.executable for file in patch.files] == [False, True, False, False]
    assert (empty.creates, empty.hunks) == (True, ())
    assert patch.diff.startswith(b"diff --git a/pkg/a.py") and patch.diff.endswith(EMPTY.encode())


def test_the_header_is_read() -> None:
    header = read(DIFF).header
    assert header.subject == "Say it on two lines"
    assert header.resolves == ("D1", "D3")
    assert header.get("Upstream-Status") == "Backport [abc]"
    assert header.date.isoformat() == "2026-11-02T10:00:00+00:00"
    assert header.body == "Why: because."


def test_a_last_line_without_newline_is_read() -> None:
    diff = DIFF.replace("+eleven\n", "+eleven\n\\ No newline at end of file\n")
    assert read(diff).files[0].hunks[1].new[-1] == b"eleven"


@pytest.mark.parametrize(
    ("diff", "line", "fault", "why"),
    [
        ("", 0, Fault.FORM, "there is no diff"),
        ("text\n" + DIFF, 1, Fault.FORM, "expected `diff --git`"),
        (DIFF + "-- \n2.39.5\n", 14, Fault.COUNT, "text after a complete hunk"),
        (EMPTY + "-- \n2.39.5\n", 4, Fault.FORM, "a signature"),
        (DIFF + "\n", 14, Fault.COUNT, "text after a complete hunk"),
        (DIFF + DIFF, 14, Fault.FORM, "is patched twice"),
        (
            DIFF.replace("@@ -1,3 +1,4 @@", "@@ -1,3 +1,3 @@"),
            5,
            Fault.COUNT,
            "has 3/4 lines, but its header counts 3/3",
        ),
        (
            DIFF.replace("@@ -1,3 +1,4 @@", "@@ -1,3 +1,5 @@"),
            11,
            Fault.COUNT,
            "counts 3/5 lines, but ends early at '@@ -10 \\+11,2 @@'",
        ),
        (DIFF.replace("@@ -1,3 +1,4 @@", "@@ -1,4 +1,5 @@"), 11, Fault.COUNT, "counts 4/5 lines, but ends early"),
        (DIFF.replace("@@ -10 +11,2 @@", "@@ -10 +10,2 @@"), 11, Fault.COUNT, "begins at new line 10; that must be 11"),
        (DIFF.replace("@@ -10 +11,2 @@", "@@ -3 +4,2 @@"), 11, Fault.COUNT, "overlaps"),
        (DIFF.replace("@@ -10 +11,2 @@", "@@ -10 11,2 @@"), 11, Fault.FORM, "not a hunk header"),
        (DIFF.replace(" one\n-two\n+2\n+2.5\n", " one\n two\n"), 9, Fault.COUNT, "counts 3/4 lines, but ends early"),
        (
            DIFF.replace("-two\n+2\n+2.5\n three", " two\n three").replace("-1,3 +1,4", "-1,3 +1,3"),
            5,
            Fault.COUNT,
            "changes nothing",
        ),
        (DIFF.replace(" three\n", "\n"), 10, Fault.COUNT, "ends early at an empty line"),
        (DIFF.replace("\n", "\r\n"), 1, Fault.RENAME, "differ: a rename is not supported"),
        (DIFF.replace("b/pkg/a.py", "b/pkg/b.py"), 1, Fault.RENAME, "a rename is not supported"),
        (DIFF.replace("--- a/pkg/a.py", "--- a/pkg/b.py"), 3, Fault.PATH, "expected '--- a/pkg/a.py'"),
        (DIFF.replace("pkg/a.py", "../etc/passwd"), 1, Fault.PATH, "leaves the tree"),
        (
            DIFF.replace("a/pkg/a.py b/pkg/a.py", "/etc/passwd /etc/passwd"),
            1,
            Fault.PATH,
            "expected `diff --git a/PATH b/PATH`",
        ),
        (DIFF.replace("pkg/a.py", "/etc/passwd"), 1, Fault.PATH, "is not a relative path"),
        (DIFF.replace("pkg/a.py", ".git/config"), 1, Fault.PATH, r"lies in a \.git folder"),
        (DIFF.replace("pkg/a.py", "pkg//a.py"), 1, Fault.PATH, "plain form"),
        (
            DIFF.replace("a/pkg/a.py b/pkg/a.py", '"a/pkg/\\303\\244" "b/pkg/\\303\\244"'),
            1,
            Fault.PATH,
            "a quoted file name",
        ),
        (
            DIFF.replace(f"index {OLD}..{NEW} 100644", "index 1111111..2222222 100644"),
            2,
            Fault.INDEX,
            "both full object ids",
        ),
        (DIFF.replace(f"index {OLD}..{NEW} 100644\n", ""), 2, Fault.FORM, "expected an index line"),
        (
            DIFF.replace("index", "old mode 100644\nnew mode 100755\nindex"),
            2,
            Fault.MODE,
            "a mode change is not supported",
        ),
        (
            DIFF.replace("index", "similarity index 90%\nrename from a\nrename to b\nindex"),
            2,
            Fault.RENAME,
            "a rename or copy is not supported",
        ),
        (DIFF.replace("index", "copy from a\ncopy to b\nindex"), 2, Fault.RENAME, "a copy is not supported"),
        (CREATE.replace("100755", "120000"), 2, Fault.FORM, "expected an index line"),
        (CREATE.replace(ZERO, OLD), 3, Fault.FORM, "disagree"),
        (
            CREATE.replace("@@ -0,0 +1 @@\n+new\n", "GIT binary patch\nliteral 1\n"),
            6,
            Fault.COUNT,
            "text after a complete hunk",
        ),
        (CREATE.replace("--- /dev/null\n", ""), 4, Fault.FORM, "expected `diff --git`"),
        (CREATE.replace("@@ -0,0 +1 @@", "@@ -1,0 +1 @@"), 6, Fault.COUNT, "begins at new line 1; that must be 2"),
        (DELETE.replace("-1 +0,0", "-1 +1,0"), 6, Fault.COUNT, "must be 0"),
        (f"diff --git a/p b/p\nindex {OLD}..{NEW} 100644\n", 1, Fault.FORM, "the file has no hunk"),
        (
            f"diff --git a/p b/p\nindex {OLD}..{NEW} 100644\nBinary files a/p and b/p differ\n",
            3,
            Fault.BINARY,
            "a binary patch",
        ),
        (
            CREATE.partition("---")[0] + "GIT binary patch\nliteral 1\n",
            4,
            Fault.BINARY,
            "a binary patch is not supported",
        ),
        ("\n\n", 2, Fault.FORM, "there is no diff"),
        (DIFF.replace("a/pkg/a.py b", "x/pkg/a.py b"), 1, Fault.PATH, "expected `diff --git a/PATH b/PATH`"),
        (DIFF.replace("a/pkg/a.py b", "a/pkg/a.py c"), 1, Fault.PATH, "expected `diff --git a/PATH b/PATH`"),
        (DIFF.replace("a/pkg/a.py b", "a/pkg/a.py-b"), 1, Fault.PATH, "expected `diff --git a/PATH b/PATH`"),
        (DIFF.replace(f"index {OLD}..{NEW} 100644", f"index {ZERO}..{NEW} 100644"), 2, Fault.FORM, "disagree"),
        (DELETE.replace(f"..{ZERO}", f"..{NEW}"), 3, Fault.FORM, "disagree"),
        (edit("@@ -1 +1 @@", "-a", "+b") + edit("@@ -9 +9 @@", "-a", "+b"), 8, Fault.FORM, "is patched twice"),
        (f"{edit()}\n{EMPTY}", 5, Fault.COUNT, "text after a complete hunk, .*: ''"),
        (edit("@@ -1,3 +1,3 @@", " a", "-b", "+c"), 9, Fault.COUNT, "ends early at the end$"),
        (edit("@@ -1 +1 @@", "-a", "x" * 61), 7, Fault.COUNT, f"ends early at '{'x' * 60}'$"),
        (edit("@@ -3,0 +4 @@", "+a", "@@ -3 +4 @@", "-b", "+c"), 7, Fault.COUNT, "overlaps"),
        (
            edit("@@ -1,0 +2,2 @@", "+a", "+b", "@@ -5 +7 @@", "-c", "+d", "@@ -9 +9 @@", "-e", "+f"),
            11,
            Fault.COUNT,
            "must be 11",
        ),
        (edit("@@ -0 +1 @@", "-a", "+b"), 5, Fault.COUNT, "a hunk with lines begins at line 1 or later"),
        (edit("@@ -1 +0 @@", "-a", "+b"), 5, Fault.COUNT, "a hunk with lines begins at line 1 or later"),
        (
            edit("@@ -1 +1,2 @@", "-a", NO_NEWLINE, "+b", NO_NEWLINE, "+c"),
            10,
            Fault.COUNT,
            "a line after one that has no newline",
        ),
        (edit("@@ -1,2 +1 @@", "-a", NO_NEWLINE, "-b", "+c"), 8, Fault.COUNT, "a line after one that has no newline"),
        (edit(), 4, Fault.FORM, "the file has no hunk$"),
        (CREATE.replace("@@ -0,0 +1 @@", "@@ -1,0 +2 @@"), 6, Fault.COUNT, "a new file has one hunk, from -0,0"),
        (CREATE + "@@ -0,0 +2 @@\n+more\n", 8, Fault.COUNT, "a new file has one hunk, from -0,0"),
        (
            DELETE.replace("@@ -1 +0,0 @@", "@@ -2 +1,0 @@"),
            6,
            Fault.COUNT,
            "a deleted file has one hunk, to +0,0".replace("+", "[+]"),
        ),
        (DELETE + "@@ -2 +0,0 @@\n-more\n", 8, Fault.COUNT, "a deleted file has one hunk, to +0,0".replace("+", "[+]")),
        (
            CREATE.replace("pkg/new.py", "x b/y").replace("+++ b/x b/y", "+++ b/x b/y\t"),
            ABOVE,
            Fault.FORM,
            "unidiff cannot read it",
        ),
        (EMPTY.replace("pkg/__init__.py", "x b/y"), ABOVE, Fault.FORM, "it reads differently with unidiff"),
    ],
)
def test_a_malformed_diff_is_refused(diff: str, line: int, fault: Fault, why: str) -> None:
    """`line` counts from the first one of the diff."""
    with pytest.raises(MalformedPatch, match=rf"(?s)^0001-x\.patch:\d+: malformed patch: .*{why}") as caught:
        read(diff)
    error = caught.value
    number = line + HEADER.count("\n") + 2
    assert (error.patch, error.line, error.fault) == ("0001-x.patch", number, fault)
    assert error.message == f"0001-x.patch:{number}: malformed patch: {error.why}"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Origin: vendor\n", "", "the header field Origin is missing"),
        ("Origin: vendor\n", "Origin:\n", "the header field Origin is missing"),
        ("Origin: vendor\n", "Origin: vendor\nOrigin: other\n", "is there twice"),
        ("Origin: vendor\n", "Orgin: vendor\n", "'Orgin' is not known"),
        ("Backport [abc]", "Merged", "Upstream-Status must begin with one of Pending"),
        ("A Maintainer <maintainer@example.invalid>", "someone", "From must be"),
        ("Mon, 02 Nov 2026 10:00:00 +0000", "yesterday", "is not a mail date"),
        ("Mon, 02 Nov 2026 10:00:00 +0000", "Mon, 02 Nov 2026 10:00:00 -0000", "no time zone"),
        ("Why: because.\n", "", "no text that says why"),
    ],
)
def test_a_malformed_header_is_refused(old: str, new: str, why: str) -> None:
    assert old in HEADER
    with pytest.raises(PatchDoesNotApply, match=rf"0001-x.patch:\d+: .*{why}"):
        read(DIFF, HEADER.replace(old, new))


@pytest.mark.parametrize(
    ("data", "line", "fault", "why"),
    [
        (b"", 1, Fault.FORM, "no `---` line"),
        (b"a\nb\n", 1, Fault.FORM, "no `---` line"),
        (b"\xff\n", 1, Fault.ENCODING, "is not UTF-8"),
        (b"\na\nb\xff\n", 3, Fault.ENCODING, "is not UTF-8"),
        (b"a\nb", 2, Fault.FORM, "does not end with a newline"),
    ],
)
def test_a_file_that_is_no_patch_is_refused(data: bytes, line: int, fault: Fault, why: str) -> None:
    with pytest.raises(MalformedPatch, match=why) as caught:
        patchfile.parse("0001-x.patch", data)
    assert (caught.value.patch, caught.value.line, caught.value.fault) == ("0001-x.patch", line, fault)


def test_a_diff_begins_below_the_rule() -> None:
    """What the text above says of diffs is no diff."""
    patch = read(DIFF, f"{HEADER}\ndiff --git a/pkg/b.py b/pkg/b.py\n")
    assert patch.diff == DIFF.encode()
    assert "diff --git a/pkg/b.py" in patch.header.body


def test_empty_lines_and_a_name_with_a_space_are_read() -> None:
    path = "pkg/a file.py"
    diff = DIFF.replace("pkg/a.py", path)
    diff = diff.replace(f"--- a/{path}", f"--- a/{path}\t").replace(f"+++ b/{path}", f"+++ b/{path}\t")
    assert [file.path for file in read(f"\n\n{diff}").files] == [path]


def test_a_last_line_may_lose_and_gain_its_newline() -> None:
    """The marker belongs to the line above it, on either side."""
    lose = read(edit("@@ -1,2 +1,2 @@", " a", "-b", "+b", NO_NEWLINE)).files[0].hunks[0]
    assert (lose.old, lose.new) == ((b"a\n", b"b\n"), (b"a\n", b"b"))
    gain = read(edit("@@ -1,2 +1,3 @@", " a", "-b", NO_NEWLINE, "+b", "+c")).files[0].hunks[0]
    assert (gain.old, gain.new) == ((b"a\n", b"b"), (b"a\n", b"b\n", b"c\n"))
    keep = read(edit("@@ -1,2 +1,2 @@", "-a", "+A", " b", NO_NEWLINE)).files[0].hunks[0]
    assert (keep.old, keep.new, keep.ends) == ((b"a\n", b"b"), (b"A\n", b"b"), False)


def test_hunks_may_touch() -> None:
    """Without context, one may begin where the one before it ends."""
    hunks = (
        read(edit("@@ -1,3 +1 @@", "-a", "-b", "-c", "+d", "@@ -3,0 +2 @@", "+e", "@@ -4 +3 @@", "-f", "+g"))
        .files[0]
        .hunks
    )
    assert [(hunk.begin, hunk.end) for hunk in hunks] == [(0, 3), (3, 3), (3, 4)]


def test_text_that_is_not_ascii_is_read() -> None:
    patch = read(DIFF.replace("+2.5", "+z\u00e4hl \u6f22"))
    assert patch.files[0].hunks[0].new[2] == "z\u00e4hl \u6f22\n".encode()
    assert [line.value for line in patch.lines()[0][0] if line.is_added] == ["2\n", "z\u00e4hl \u6f22\n"]


def test_a_patch_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "x.patch"
    file.write_bytes(b"a" * patchfile.LIMIT)
    assert patchfile.read(file) == b"a" * patchfile.LIMIT
    for size in (patchfile.LIMIT + 1, 1 << 40):  # the latter sparse, and more than any memory
        with file.open("r+b") as stream:
            stream.truncate(size)
        with pytest.raises(
            MalformedPatch, match=rf"has {size} bytes; a patch has at most {patchfile.LIMIT}$"
        ) as caught:
            patchfile.read(file)
        assert (caught.value.patch, caught.value.line, caught.value.fault) == ("x.patch", 1, Fault.SIZE)


def test_crlf_in_the_header_is_refused() -> None:
    with pytest.raises(PatchDoesNotApply):
        patchfile.parse("0001-x.patch", f"{HEADER}---\n{DIFF}".replace("\n", "\r\n").encode())
