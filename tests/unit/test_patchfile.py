# SPDX-License-Identifier: Apache-2.0
"""The patch reader: what it takes, and each thing that it refuses."""

from __future__ import annotations

import pytest

from patchset import patchfile
from patchset.errors import PatchDoesNotApply

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


def read(diff: str, header: str = HEADER) -> patchfile.Patch:
    return patchfile.parse("0001-x.patch", f"{header}---\n\n{diff}".encode())


def test_a_patch_is_read_whole() -> None:
    patch = read(DIFF + CREATE + DELETE + EMPTY)
    assert [file.path for file in patch.files] == ["pkg/a.py", "pkg/new.py", "pkg/old.py", "pkg/__init__.py"]
    assert (patch.added, patch.removed) == (4, 2)
    edit, create, delete, empty = patch.files
    assert edit.hunks[0].old == (b"one\n", b"two\n", b"three\n")
    assert edit.hunks[0].new == (b"one\n", b"2\n", b"2.5\n", b"three\n")
    assert [(hunk.old_start, hunk.new_start) for hunk in edit.hunks] == [(1, 1), (10, 11)]
    assert (create.creates, create.executable, delete.deletes) == (True, True, True)
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
    ("diff", "why"),
    [
        ("", "there is no diff"),
        ("text\n" + DIFF, "expected `diff --git`"),
        (DIFF + "-- \n2.39.5\n", "text after a complete hunk"),
        (EMPTY + "-- \n2.39.5\n", "a signature"),
        (DIFF + "\n", "text after a complete hunk"),
        (DIFF + DIFF, "is patched twice"),
        (DIFF.replace("@@ -1,3 +1,4 @@", "@@ -1,3 +1,3 @@"), "has 3/4 lines, but its header counts 3/3"),
        (DIFF.replace("@@ -1,3 +1,4 @@", "@@ -1,3 +1,5 @@"), "ends early|has 3/"),
        (DIFF.replace("@@ -1,3 +1,4 @@", "@@ -1,4 +1,5 @@"), "ends early"),
        (DIFF.replace("@@ -10 +11,2 @@", "@@ -10 +10,2 @@"), "begins at new line 10; that must be 11"),
        (DIFF.replace("@@ -10 +11,2 @@", "@@ -3 +4,2 @@"), "overlaps"),
        (DIFF.replace("@@ -10 +11,2 @@", "@@ -10 11,2 @@"), "not a hunk header"),
        (DIFF.replace(" one\n-two\n+2\n+2.5\n", " one\n two\n"), "ends early|has"),
        (DIFF.replace("-two\n+2\n+2.5\n three", " two\n three").replace("-1,3 +1,4", "-1,3 +1,3"), "changes nothing"),
        (DIFF.replace(" three\n", "\n"), "ends early at an empty line"),
        (DIFF.replace("\n", "\r\n"), "expected `diff --git|expected an index line|differ|path"),
        (DIFF.replace("b/pkg/a.py", "b/pkg/b.py"), "a rename is not supported"),
        (DIFF.replace("--- a/pkg/a.py", "--- a/pkg/b.py"), "expected '--- a/pkg/a.py'"),
        (DIFF.replace("pkg/a.py", "../etc/passwd"), "leaves the tree"),
        (DIFF.replace("a/pkg/a.py b/pkg/a.py", "/etc/passwd /etc/passwd"), "expected `diff --git a/PATH b/PATH`"),
        (DIFF.replace("pkg/a.py", "/etc/passwd"), "is not a relative path"),
        (DIFF.replace("pkg/a.py", ".git/config"), r"lies in a \.git folder"),
        (DIFF.replace("pkg/a.py", "pkg//a.py"), "plain form"),
        (DIFF.replace("a/pkg/a.py b/pkg/a.py", '"a/pkg/\\303\\244" "b/pkg/\\303\\244"'), "a quoted file name"),
        (DIFF.replace(f"index {OLD}..{NEW} 100644", "index 1111111..2222222 100644"), "both full object ids"),
        (DIFF.replace(f"index {OLD}..{NEW} 100644\n", ""), "expected an index line"),
        (DIFF.replace("index", "old mode 100644\nnew mode 100755\nindex"), "a mode change is not supported"),
        (DIFF.replace("index", "similarity index 90%\nrename from a\nrename to b\nindex"), "a rename or copy"),
        (DIFF.replace("index", "copy from a\ncopy to b\nindex"), "a copy"),
        (CREATE.replace("100755", "120000"), "expected an index line"),
        (CREATE.replace(ZERO, OLD), "disagree"),
        (CREATE.replace("@@ -0,0 +1 @@\n+new\n", "GIT binary patch\nliteral 1\n"), "has no hunk|expected|text after"),
        (CREATE.replace("--- /dev/null\n", ""), "expected `diff --git`|no hunk"),
        (CREATE.replace("@@ -0,0 +1 @@", "@@ -1,0 +1 @@"), "must be 2|a new file has one hunk"),
        (DELETE.replace("-1 +0,0", "-1 +1,0"), "must be 0"),
        (f"diff --git a/p b/p\nindex {OLD}..{NEW} 100644\n", "the file has no hunk"),
        (f"diff --git a/p b/p\nindex {OLD}..{NEW} 100644\nBinary files a/p and b/p differ\n", "a binary patch"),
    ],
)
def test_a_malformed_diff_is_refused(diff: str, why: str) -> None:
    with pytest.raises(PatchDoesNotApply, match=rf"(?s)^0001-x\.patch:\d+: malformed patch: .*({why})"):
        read(diff)


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
    ("data", "why"),
    [
        (b"", "no `---` line"),
        ((HEADER + DIFF.replace("---", "")).encode(), "no `---` line"),
        ((HEADER + "---\n" + DIFF).encode().replace(b"two", b"\xff"), "is not UTF-8"),
        ((HEADER + "---\n" + DIFF).encode()[:-1], "does not end with a newline"),
    ],
)
def test_a_file_that_is_no_patch_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(PatchDoesNotApply, match=why):
        patchfile.parse("0001-x.patch", data)


def test_crlf_in_the_header_is_refused() -> None:
    with pytest.raises(PatchDoesNotApply):
        patchfile.parse("0001-x.patch", f"{HEADER}---\n{DIFF}".replace("\n", "\r\n").encode())
