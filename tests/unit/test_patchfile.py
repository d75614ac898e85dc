# SPDX-License-Identifier: Apache-2.0
"""What a patch file says of itself, and what keeps a file from being read as one; what its diff does is test_rule's."""

from __future__ import annotations

import pytest
from conftest import HEADER, MBOX

from patchset.node.errors import PatchDoesNotApply
from patchset.node.manifest import sha256
from patchset.sets import patchfile
from patchset.sets.patchfile import MalformedPatch

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
