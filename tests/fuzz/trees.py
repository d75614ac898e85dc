# SPDX-License-Identifier: Apache-2.0
"""Random small trees, edits of them, the diff that git makes of an edit, and what other tools make of a diff.

git runs outside any repository here, so that one process makes a diff and one applies it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from patchset import exact, patchfile

Tree = dict[str, str]

# A few hundred cases for `make test`, PATCHSET_FUZZ of them for `make fuzz`.
CASES = settings(
    max_examples=int(os.environ.get("PATCHSET_FUZZ", "200")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

HEADER = """\
From: A Maintainer <maintainer@example.invalid>
Date: Mon, 02 Nov 2026 10:00:00 +0000
Subject: An edit
Origin: vendor
Upstream-Status: Pending
Removal-Plan: when upstream does the same

Why: because.
---
"""

NAMES = ("a.py", "pkg/b.py", "pkg/deep/c.py", "caf\u00e9.py", "with space.py")
# Lines that patch tools have taken for something else, beside plain ones; few, so that they repeat.
LINES = (
    "x\n",
    "y\n",
    "\n",
    "    z\n",
    "-- a\n",
    "--- a\n",
    "+++ b\n",
    "@@ -1 +1 @@\n",
    "\\ no\n",
    "diff --git a b\n",
    "Index: a\n",
    "\t\n",
    "\u2028\n",
    "\x0c\n",
)

names = st.sampled_from(NAMES)
line = st.sampled_from(LINES)
content = st.builds(lambda lines, end: "".join(lines) + end, st.lists(line, max_size=30), st.sampled_from(["", "last"]))
trees = st.dictionaries(names, content, max_size=4)


@st.composite
def edits(draw: st.DrawFn) -> tuple[Tree, Tree]:
    """A tree, and the tree after a few edits of lines, new files and deletions."""
    before = draw(trees)
    after = dict(before)
    for path in draw(st.lists(names, min_size=1, max_size=3)):
        if path in after and draw(st.booleans()):
            lines = [part.decode() for part in exact.split(after[path].encode())]
            at = draw(st.integers(0, len(lines)))
            lines[at : at + draw(st.integers(0, 2))] = draw(st.lists(line, max_size=2))
            after[path] = "".join(lines)
        elif path in after and draw(st.booleans()):
            del after[path]
        else:
            after[path] = draw(content)
    return before, after


@dataclass(frozen=True)
class Outcome:
    """What a tool made of a patch.

    Attributes:
        tree: the tree after it; None where the tool refused.
        offset: it put a hunk somewhere else than the patch says.
        said: its output.
    """

    tree: Tree | None
    offset: bool = False
    said: str = ""


def write(folder: Path, tree: Tree) -> Path:
    """The tree as a folder, whatever was there before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, text in tree.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    return folder


def read(folder: Path) -> Tree:
    """The tree that a folder holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes().decode() for path in files}


def _run(command: list[str], folder: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": os.devnull, **quiet}
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False, env=environment)


def diff(before: Tree, after: Tree, scratch: Path) -> str:
    """The diff that git makes between two trees; empty where they are equal."""
    write(scratch / "a", before)
    write(scratch / "b", after)
    options = ["-c", "core.quotePath=false", "diff", "--no-index", "--no-prefix", "--full-index", "--no-renames"]
    done = _run(["git", *options, "a", "b"], scratch)
    assert done.returncode in (0, 1), done.stderr
    # Of a file that is new or gone, --no-index shows the one name twice; a diff between commits shows a/ and b/.
    return re.sub(r"(?m)^diff --git ([ab])/(.*) \1/\2$", r"diff --git a/\2 b/\2", done.stdout.decode())


def patch_of(text: str) -> patchfile.Patch:
    """Our reading of a diff."""
    return patchfile.parse("x.patch", (HEADER + text).encode())


def ours(patch: patchfile.Patch, tree: Tree) -> Tree:
    """What this tool makes of it.

    Raises:
        PatchDoesNotApply: it refuses.
    """
    result = dict(tree)
    for file in patch.files:
        data = exact.apply(patch.name, file, result[file.path].encode() if file.path in result else None)
        if data is None:
            del result[file.path]
        else:
            result[file.path] = data.decode()
    return result


def by_git(text: str, tree: Tree, scratch: Path) -> Outcome:
    """What `git apply` makes of it."""
    folder = write(scratch / "git", tree)
    done = _run(["git", "apply", "-v", "--whitespace=nowarn", "-"], folder, text.encode())
    said = (done.stdout + done.stderr).decode()
    return Outcome(None if done.returncode else read(folder), "offset" in said, said)


def by_patch(text: str, tree: Tree, scratch: Path) -> Outcome:
    """What GNU `patch -F0` makes of it."""
    folder = write(scratch / "patch", tree)
    options = ["-p1", "-F0", "--batch", "--forward", "--no-backup-if-mismatch", "--reject-file=-", "--verbose"]
    done = _run(["patch", *options], folder, text.encode())
    said = (done.stdout + done.stderr).decode()
    return Outcome(None if done.returncode else read(folder), "offset" in said, said)
