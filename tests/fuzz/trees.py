# SPDX-License-Identifier: Apache-2.0
"""Random small trees, edits of them, and the patch that git writes of an edit."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from patchset.plan import commits

if TYPE_CHECKING:
    from patchset.system.git import Repository

Tree = dict[str, str]

# A few hundred cases for `make test`, PATCHSET_FUZZ of them for `make fuzz`.
CASES = settings(
    max_examples=int(os.environ.get("PATCHSET_FUZZ", "200")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

MESSAGE = """\
An edit

Why: because.

Origin: vendor
Upstream-Status: Pending
Removal-Plan: when upstream does the same
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
            lines = [part.decode() for part in io.BytesIO(after[path].encode())]
            at = draw(st.integers(0, len(lines)))
            lines[at : at + draw(st.integers(0, 2))] = draw(st.lists(line, max_size=2))
            after[path] = "".join(lines)
        elif path in after and draw(st.booleans()):
            del after[path]
        else:
            after[path] = draw(content)
    return before, after


def patch(bench: Repository, before: Tree, after: Tree) -> tuple[str, bytes]:
    """The commit of the tree before, and the patch that git writes of the edit."""
    bench.git("read-tree", "--empty")
    bench.stage({path: text.encode() for path, text in before.items()})
    base = bench.commit("before\n", commits.NOBODY, None)
    bench.git("read-tree", "--empty")
    bench.stage({path: text.encode() for path, text in after.items()})
    (data,) = commits.format_patches(bench, base, bench.commit(MESSAGE, commits.NOBODY, base))
    return base, data


def at(bench: Repository, commit: str) -> Tree:
    """The tree of a commit."""
    files = bench.files(commit)
    blobs = bench.blobs(files.values())
    return {path: blobs[blob].decode() for path, blob in files.items()}
