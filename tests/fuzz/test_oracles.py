# SPDX-License-Identifier: Apache-2.0
"""Our apply against git apply and GNU patch -F0 on random trees: equal where all accept, stricter where they err."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trees
from hypothesis import assume, event, given
from hypothesis import strategies as st

from patchset import patchfile
from patchset.errors import PatchDoesNotApply
from patchset.git import blob_id

STRAY = ("+lost\n", " lost\n", "-lost\n", "junk\n", "\n", "@@ -1 +1 @@\n")

Pair = tuple[trees.Tree, trees.Tree]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: each case writes a few files."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@trees.CASES
@given(trees.edits())
def test_apply_then_revert_is_the_identity(scratch: Path, pair: Pair) -> None:
    before, after = pair
    assume(before != after)
    there = trees.patch_of(trees.diff(before, after, scratch))
    back = trees.patch_of(trees.diff(after, before, scratch))
    assert trees.ours(there, before) == after
    assert trees.ours(back, after) == before
    for file in there.files:
        assert file.old_blob == (blob_id(before[file.path].encode()) if file.path in before else "0" * 40)
        assert file.new_blob == (blob_id(after[file.path].encode()) if file.path in after else "0" * 40)


@trees.CASES
@given(trees.edits(), trees.trees)
def test_git_makes_the_same_or_puts_it_elsewhere(scratch: Path, pair: Pair, other: trees.Tree) -> None:
    """On the patch's own tree and on another. What git takes and we refuse, it takes at an offset: a stale patch."""
    before, after = pair
    assume(before != after)
    text = trees.diff(before, after, scratch)
    for tree in (before, {**before, **other}):
        git = trees.by_git(text, tree, scratch)
        try:
            ours = trees.ours(trees.patch_of(text), tree)
        except PatchDoesNotApply:
            event("refused by us" + (", put elsewhere by git" if git.tree is not None else ", by git too"))
            assert git.tree is None or git.offset, git.said
        else:
            event("accepted")
            assert (git.tree, git.offset) == (ours, False), git.said


@pytest.mark.skipif(shutil.which("patch") is None, reason="GNU patch is not installed (Debian: apt-get install patch)")
@trees.CASES
@given(trees.edits(), trees.trees)
def test_gnu_patch_without_fuzz_makes_the_same(scratch: Path, pair: Pair, other: trees.Tree) -> None:
    """Where both accept. GNU patch is laxer and stricter than git in the ways that the comments name."""
    before, after = pair
    assume(before != after)
    text = trees.diff(before, after, scratch)
    patch = trees.patch_of(text)
    # It finds no name in a diff without --- and +++ lines where the name has a space.
    assume(not any(" " in file.path and not file.hunks for file in patch.files))
    for tree in (before, {**before, **other}):
        gnu = trees.by_patch(text, tree, scratch)
        try:
            ours = trees.ours(patch, tree)
        except PatchDoesNotApply as error:
            # It makes a new file over an empty one, and does not ask whether a hunk without context ends the file.
            assert gnu.tree is None or gnu.offset or not error.hunk or ends(patch, error), gnu.said
        else:
            # With less context after a change than before it, it holds the hunk to the end of the file.
            assert (gnu.tree, gnu.offset) == (ours, False) or (gnu.tree is None and tree is not before), gnu.said


@trees.CASES
@given(trees.edits(), st.data())
def test_a_patch_that_lies_is_refused_or_means_the_same_to_git(scratch: Path, pair: Pair, data: st.DataObject) -> None:
    """A line of the diff dropped, doubled, moved or altered: git may lose lines without a word (T2); we may not."""
    before, after = pair
    assume(before != after)
    lines = trees.diff(before, after, scratch).splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    what = data.draw(st.sampled_from(["drop", "double", "swap", "count", "tag", "insert"]))
    changed = list(lines)
    if what == "drop":
        del changed[at]
    elif what == "double":
        changed.insert(at, changed[at])
    elif what == "swap":
        changed[at - 1], changed[at] = changed[at], changed[at - 1]
    elif what == "count":
        changed[at] = changed[at].replace(",3", ",2").replace(",4", ",5").replace("-1", "-2")
    elif what == "tag":
        changed[at] = data.draw(st.sampled_from(["+", "-", " ", "\\", "@"])) + changed[at][1:]
    else:
        changed.insert(
            at, data.draw(st.sampled_from(["+lost\n", " lost\n", "-lost\n", "junk\n", "\n", "@@ -1 +1 @@\n"]))
        )
    assume(changed != lines)
    text = "".join(changed)
    try:
        ours = trees.ours(trees.patch_of(text), before)
    except PatchDoesNotApply as error:
        event(f"{what}: refused")
        assert error.patch == "x.patch"
        return
    event(f"{what}: accepted")
    git = trees.by_git(text, before, scratch)
    assert (git.tree, git.offset) == (ours, False), git.said


def ends(patch: patchfile.Patch, error: PatchDoesNotApply) -> bool:
    """Whether the hunk at fault ends its file: git and we hold it to that, GNU patch does not."""
    hunk = next(file for file in patch.files if file.path == error.path).hunks[error.hunk - 1]
    return hunk.ends or not hunk.new[-1].endswith(b"\n")
