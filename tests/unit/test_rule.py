# SPDX-License-Identifier: Apache-2.0
"""The rule: a patch is what `git format-patch` writes of the commit that `git am` makes of it. Every lie breaks it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, World, git, git_diff, read_tree

from patchset.node.errors import PatchDoesNotApply
from patchset.plan import commits, plan
from patchset.sets import patchfile
from patchset.sets.setfile import load_set
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source

RUNNER, NEW, OLD, EMPTY = (f"{PACKAGE}/{name}.py" for name in ("runner", "new", "old", "none"))
ZERO = "0" * 40
NO_NEWLINE = "\\ No newline at end of file\n"


@pytest.fixture
def text(empty: World) -> str:
    """A patch that edits one file in two places, and makes, deletes and empties one."""
    runner = UPSTREAM[RUNNER].replace("step_5 = 5\n", "step_5 = 50\nstep_5b = 0\n").replace("step_25 = 25\n", "")
    after = {**UPSTREAM, RUNNER: runner, NEW: "new = True\n", EMPTY: ""}
    del after[OLD]
    return HEADER.format(subject="Say it") + git_diff(UPSTREAM, after, empty.root.parent / "scratch")


def read(path: str) -> bytes:
    return UPSTREAM[path].encode()


def make(world: World, text: str) -> plan.Plan:
    """The plan of a set with this one patch."""
    world.add("0001-x.patch", text)
    return plan.make(load_set(SET), read)


def test_a_patch_that_git_made_is_good(empty: World, text: str) -> None:
    made = make(empty, text)
    assert (
        made.changes[RUNNER].after
        == UPSTREAM[RUNNER].replace("step_5 = 5\n", "step_5 = 50\nstep_5b = 0\n").replace("step_25 = 25\n", "").encode()
    )
    assert (made.changes[NEW].before, made.changes[NEW].after) == (None, b"new = True\n")
    assert (made.changes[OLD].after, made.changes[EMPTY].after) == (None, b"")


def swap(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text, text
        return text.replace(old, new, 1)

    return edit


def of(path: str, old: str, new: str) -> Callable[[str], str]:
    """An edit of the lines of one file of the patch."""

    def edit(text: str) -> str:
        begin = text.index(f"diff --git a/{path} ")
        end = text.find("\ndiff --git ", begin)
        end = len(text) if end < 0 else end + 1
        part = text[begin:end]
        assert old in part, part
        return text[:begin] + part.replace(old, new) + text[end:]

    return edit


def diff_of(text: str) -> str:
    return text[text.index("diff --git") :]


LIES = {
    "text before the diff": swap("diff --git", "text\ndiff --git"),
    "a signature": lambda text: text + "-- \n2.39.5\n",
    "an empty line at the end": lambda text: text + "\n",
    "a lost line": lambda text: text + "+SILENTLY LOST\n",
    "junk": lambda text: text + "junk\n",
    "a torn hunk header": lambda text: text + "@@ junk @@\n",
    "the diff twice": lambda text: text + diff_of(text),
    "too few lines counted": swap("@@ -2,7 +2,8 @@", "@@ -2,7 +2,7 @@"),
    "too many lines counted": swap("@@ -2,7 +2,8 @@", "@@ -2,7 +2,9 @@"),
    "too many on both sides": swap("@@ -2,7 +2,8 @@", "@@ -2,8 +2,9 @@"),
    "an offset": swap("@@ -2,7 +2,8 @@", "@@ -3,7 +3,8 @@"),
    "another new line": swap("@@ -22,7 +23,6 @@", "@@ -22,7 +22,6 @@"),
    "hunks that overlap": swap("@@ -22,7 +23,6 @@", "@@ -4,7 +5,6 @@"),
    "no plus in a hunk header": swap("@@ -2,7 +2,8 @@", "@@ -2,7 2,8 @@"),
    "a line that is not there": swap("-step_5 = 5\n", "-step_5 = 6\n"),
    "context that is not there": swap(" step_4 = 4\n", " step_4 = 44\n"),
    "an empty line for context": swap(" step_4 = 4\n", "\n"),
    "a hunk that changes nothing": lambda text: text.replace(
        "-step_5 = 5\n+step_5 = 50\n+step_5b = 0\n", " step_5 = 5\n"
    ).replace("@@ -2,7 +2,8 @@", "@@ -2,7 +2,7 @@"),
    "less context": lambda text: text.replace(" step_2 = 2\n", "").replace("@@ -2,7 +2,8 @@", "@@ -3,6 +3,7 @@"),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "a rename": of(RUNNER, f"b/{RUNNER}\nindex", f"b/{PACKAGE}/ranner.py\nindex"),
    "a rename with its lines": of(RUNNER, "index ", f"similarity index 90%\nrename from {RUNNER}\nrename to x\nindex "),
    "a copy": of(RUNNER, "index ", f"copy from {RUNNER}\ncopy to x\nindex "),
    "another +++ name": swap(f"+++ b/{RUNNER}", f"+++ b/{PACKAGE}/other.py"),
    "another --- name": swap(f"--- a/{RUNNER}", f"--- a/{PACKAGE}/other.py"),
    "a path outside": lambda text: text.replace(NEW, "../../etc/passwd"),
    "an absolute path": lambda text: text.replace(NEW, "/etc/passwd"),
    "no prefixes": lambda text: text.replace(f"a/{NEW}", NEW).replace(f"b/{NEW}", NEW),
    "a path into .git": lambda text: text.replace(NEW, ".git/config"),
    "a path with two slashes": lambda text: text.replace(NEW, f"{PACKAGE}//new.py"),
    "a path with a backslash": lambda text: text.replace(NEW, f"{PACKAGE}\\new.py"),
    "a quoted path": lambda text: text.replace(f"a/{NEW} b/{NEW}", f'"a/{NEW}" "b/{NEW}"'),
    "another prefix": lambda text: text.replace(f"a/{RUNNER} b", f"x/{RUNNER} b"),
    "short object ids": lambda text: re.sub(r"index (.{7}).{33}\.\.(.{7}).{33}", r"index \1..\2", text),
    "no index line": lambda text: re.sub(r"index .* 100644\n", "", text, count=1),
    "a false old id": lambda text: re.sub(r"index [1-9a-f].{7}", "index 01234567", text),
    "a false new id": lambda text: re.sub(r"\.\.[1-9a-f].{7}", "..01234567", text),
    "a mode change": of(RUNNER, "index ", "old mode 100644\nnew mode 100755\nindex "),
    "a link": of(NEW, "new file mode 100644", "new file mode 120000"),
    "a submodule": of(NEW, "new file mode 100644", "new file mode 160000"),
    "a new file that was there": of(NEW, ZERO, "1" * 40),
    "a new file over one that is there": lambda text: text.replace(NEW, f"{PACKAGE}/comm.py"),
    "a deleted file that has more": of(OLD, "-gone = True\n", "-gone = False\n"),
    "a deleted file that is not there": lambda text: text.replace(OLD, f"{PACKAGE}/older.py"),
    "a binary patch": of(NEW, "@@ -0,0 +1 @@\n+new = True\n", "GIT binary patch\nliteral 1\n"),
    "binary files": of(NEW, f"--- /dev/null\n+++ b/{NEW}\n@@ -0,0 +1 @@\n+new = True\n", "Binary files differ\n"),
    "no hunk": of(NEW, "@@ -0,0 +1 @@\n+new = True\n", ""),
    "no --- line": of(NEW, "--- /dev/null\n", ""),
    "a new file from line 1": of(NEW, "@@ -0,0 +1 @@", "@@ -1,0 +1 @@"),
    "a new file in two hunks": of(NEW, "+new = True\n", "+new = True\n@@ -0,0 +2 @@\n+more\n"),
    "a deleted file with a line": of(OLD, "@@ -1 +0,0 @@", "@@ -1 +1,0 @@"),
    "line 0": swap("@@ -2,7 +2,8 @@", "@@ -0,7 +0,8 @@"),
    "no newline in the middle": swap("+step_5 = 50\n", f"+step_5 = 50\n{NO_NEWLINE}"),
    "no newline, and then a line": of(NEW, "+new = True\n", f"+new = True\n{NO_NEWLINE}+more\n"),
    "a line that git drops from the text": swap("How: so.", "How: so.  "),
    "a rule in the text": swap("How: so.", "---\nHow: so."),
    "a mail in the text": swap("How: so.", "From 0123456789 Mon Sep 17 00:00:00 2001\nHow: so."),
    "a diff in the text": swap("How: so.", "diff --git a/x b/x\nHow: so."),
    "an author in the text": swap("Why: because.", "From: Another <b@example.invalid>\n\nWhy: because."),
    "a prefix of the subject": swap("Subject: Say", "Subject: [PATCH 1/2] Say"),
    "a mail header that git drops": swap("Date:", "X-Why: so\nDate:"),
    "an encoded subject": swap("Subject: Say it", "Subject: =?utf-8?q?Say?= it"),
    "a date of another form": swap("Mon, 2 Nov 2026", "Mon, 02 Nov 2026"),
    "another first line": swap("Mon Sep 17", "Tue Sep 18"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(empty: World, text: str, lie: str) -> None:
    told = LIES[lie](text)
    assert told != text
    empty.add("0001-x.patch", told)
    with pytest.raises(PatchDoesNotApply) as caught:
        plan.make(load_set(SET), read)
    assert caught.value.exit_code == 3 and caught.value.hint
    assert caught.value.patch in ("0001-x.patch", "series"), caught.value.message
    with pytest.raises(PatchDoesNotApply):
        plan.make_pinned(load_set(SET), read)


@pytest.mark.parametrize("tail", [" context\n", "-removed\n", "\\ No newline\n", "junk\n", "@@ junk @@\n", "\n"])
def test_a_lie_that_is_told_after_the_digests_were_written_is_refused(world: World, tail: str) -> None:
    """The tree would be the same; the digest of the series is not, so that apply asks git."""
    file = world.folder / world.names[-1]
    file.write_text(file.read_text() + tail)
    assert world.run("apply", SET, "--no-smoke") == 3
    assert not world.tree.exists()


SUBJECTS = [
    "[x] Say it",
    'Say it: with, a comma; and "quotes"',
    "S\u00e4y it",
    "Say it " + "at length " * 12 + "so that it is folded",
    "fix #3: # is no comment",
]
BODIES = [
    "Why: from \u00e4 to \u00f6.\n\n  indented\n\ttabbed\n* a list\n",
    "Why: so.\n\n> From me\n>From you\nfrom them\n\n-- \nnot a signature\n",
    "How: https://example.invalid/x?y=z\n\nNote: not a trailer, for it is text\n",
]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("body", BODIES)
def test_what_git_writes_is_read_back(empty: World, subject: str, body: str) -> None:
    """Subjects and bodies that a mail could garble; the patch is written by git of a commit."""
    with commits.scratch() as bench:
        bench.stage({RUNNER: UPSTREAM[RUNNER].encode()})
        base = bench.commit("upstream\n", commits.NOBODY, None)
        bench.stage({RUNNER: b"other = 1\n"})
        text = f"{subject}\n\n{body}\nOrigin: vendor\nUpstream-Status: Pending\nRemoval-Plan: never\n"
        tip = bench.commit(text, commits.NOBODY, base)
        (data,) = commits.format_patches(bench, base, tip)
        patch = patchfile.parse("x.patch", data)
        made = commits.apply(bench, base, [patch])
        commits.refuse_lies(bench, base, [patch], made)
    assert (patch.header.subject, patch.header.body) == (subject.strip(), body.strip("\n").replace(" \n", "\n"))


def test_a_hostile_configuration_changes_nothing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's settings, nor the environment's, nor attributes of upstream."""
    assert world.run("apply", SET, "--no-smoke") == 0
    before = git(world.tree, "rev-parse", "HEAD")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / ".gitconfig").write_text(
        "[core]\nautocrlf = true\nabbrev = 5\nattributesFile = ~/attributes\nquotePath = true\nhooksPath = ~/hooks\n"
        "[diff]\nnoprefix = true\nmnemonicPrefix = true\nalgorithm = patience\ncontext = 9\nrenames = copies\n"
        "interHunkContext = 9\nindentHeuristic = false\nsuppressBlankEmpty = true\norderFile = ~/order\n"
        "[format]\nsignOff = true\nheaders = X-Evil: yes\nnumbered = true\nthread = true\nattach = true\nfrom = true\n"
        "subjectPrefix = EVIL\nnotes = true\nuseAutoBase = true\nencodeEmailHeaders = true\nnoprefix = true\n"
        "coverLetter = true\nmboxrd = true\nsuffix = .evil\n"
        "[am]\nthreeWay = true\nkeepcr = false\nmessageid = true\n"
        "[apply]\nwhitespace = fix\nignoreWhitespace = change\n"
        "[commit]\ngpgSign = true\n[mailinfo]\nscissors = true\nquotedCr = strip\n[i18n]\ncommitEncoding = latin1\n"
        "[log]\nshowSignature = true\nfollow = true\ndate = relative\n"
        "[user]\nname = Evil\nemail = evil@example.invalid\n"
        "[core]\ncommentChar = W\n[init]\ndefaultObjectFormat = sha256\ndefaultRefFormat = reftable\n"
    )
    (hostile / "attributes").write_text("* text eol=crlf -diff\n")
    (hostile / "order").write_text("*.zzz\n")
    (hostile / "hooks").mkdir()
    (hostile / "hooks" / "applypatch-msg").write_text("#!/bin/sh\nexit 1\n")
    (hostile / "hooks" / "applypatch-msg").chmod(0o755)
    subprocess.run(["rm", "-rf", str(world.root / "build")], check=True)
    for name, value in {
        "HOME": str(hostile),
        "XDG_CONFIG_HOME": str(hostile),
        "GIT_CONFIG_GLOBAL": str(hostile / ".gitconfig"),
        "GIT_AUTHOR_NAME": "Evil",
        "GIT_COMMITTER_DATE": "1999-01-01T00:00:00",
        "GIT_DIFF_OPTS": "-u9",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_DIR": "/nowhere",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    assert world.run("pin", SET, "--offline") == 0
    assert world.run("fmt", SET, "--offline", "--check") == 0
    assert world.run("apply", SET, "--no-smoke") == 0
    assert world.run("export", SET, "--offline", "--check") == 0
    for name in ("GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert git(world.tree, "rev-parse", "HEAD") == before


def test_attributes_of_upstream_change_no_byte(empty: World) -> None:
    empty.patch("0001-attributes.patch", {".gitattributes": "* text eol=crlf\n*.md -diff\n"})
    empty.patch("0002-edit.patch", {OLD: "old = 2\n", f"{PACKAGE}/more.py": "more = 1\n"})
    empty.pin()
    assert empty.run("apply", SET, "--no-smoke") == 0
    assert read_tree(empty.tree) == empty.expected()
    assert empty.run("export", SET, "--offline", "--check") == 0
    (empty.tree / "README.md").write_text("other\n")
    git(empty.tree, "commit", "-qam", "Say otherwise\n\nWhy: so.")
    assert empty.run("export", SET, "--offline") == 0
    assert "\n-A tiny upstream.\n+other\n" in (empty.folder / "0003-say-otherwise.patch").read_text()


def test_every_commit_of_the_tree_imports(world: World, tmp_path: Path) -> None:
    """The overlay is there before the first patch that needs it."""
    assert world.run("apply", SET, "--no-smoke") == 0
    assert git(world.tree, "log", "--reverse", "--format=%s").splitlines()[1] == "Install the overlay"
    for commit in git(world.tree, "rev-list", "HEAD").split():
        place = tmp_path / commit
        git(world.tree, "worktree", "add", "-q", "--detach", str(place), commit)
        modules = [path.stem for path in (place / PACKAGE).glob("*.py") if path.stem.isidentifier()]
        code = "".join(f"import {PACKAGE}.{name}\n" for name in modules if name != "__init__")
        subprocess.run([sys.executable, "-c", code], cwd=place, check=True)


def test_a_source_is_asked_for_the_files_that_a_patch_names(world: World) -> None:
    """No whole tree is unpacked where a target has what is needed."""
    target = world.checkout(world.root.parent / "target")
    world.cached.unlink()
    source = Source(load_set(SET), given=target, offline=True, terminal=Terminal())
    assert plan.make_pinned(load_set(SET), source.read).tree == load_set(SET).tree
