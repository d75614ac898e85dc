# SPDX-License-Identifier: Apache-2.0
"""The rule on random trees and edits: git makes of its own patches the same again, and of a lie never what it says."""

from __future__ import annotations

import trees
from hypothesis import assume, event, given
from hypothesis import strategies as st

from patchset.node.errors import PatchDoesNotApply
from patchset.plan import commits
from patchset.sets import patchfile

Pair = tuple[trees.Tree, trees.Tree]
STRAY = ("+lost\n", " lost\n", "-lost\n", "junk\n", "\n", "@@ -1 +1 @@\n", "-- \n", "diff --git a/x b/x\n")


@trees.CASES
@given(trees.edits())
def test_what_git_writes_it_reads_back(pair: Pair) -> None:
    before, after = pair
    assume(before != after)
    with commits.scratch() as bench:
        base, data = trees.patch(bench, before, after)
        patch = patchfile.parse("x.patch", data)
        made = commits.apply(bench, base, [patch])
        commits.refuse_lies(bench, base, [patch], made)
        assert trees.at(bench, "HEAD") == after
        assert {file.path for file in made[0].files} == patch.named == {file.path for file in patch.lines}


@trees.CASES
@given(trees.edits(), st.data())
def test_a_patch_that_lies_is_refused(pair: Pair, data: st.DataObject) -> None:
    """A line dropped, doubled, moved, altered or put in, anywhere: git may lose lines without a word (T2)."""
    before, after = pair
    assume(before != after)
    with commits.scratch() as bench:
        base, text = trees.patch(bench, before, after)
        lines = text.decode().splitlines(keepends=True)
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
            changed.insert(at, data.draw(st.sampled_from(STRAY)))
        lie = "".join(changed).encode()
        assume(lie != text)
        try:
            patch = patchfile.parse("x.patch", lie)
            made = commits.apply(bench, base, [patch])
            commits.refuse_lies(bench, base, [patch], made)
        except PatchDoesNotApply as error:
            event(f"{what}: refused")
            assert error.patch in ("x.patch", "series") and error.exit_code == 3
            return
        event(f"{what}: means what it says")  # as where a line of the text is doubled
        assert commits.format_patches(bench, base) == [lie]
