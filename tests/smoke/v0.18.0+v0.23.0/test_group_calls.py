# SPDX-License-Identifier: Apache-2.0
"""Layers that gather rows over DP ranks, and how experts exchange theirs, by this release's own methods."""

from collections.abc import Callable
from typing import Any

import pytest
from job import Tree

pytestmark = pytest.mark.standin

Call = Callable[..., Any]
Seen = Callable[[str], None]

_ON_EACH = pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)


@pytest.mark.defect("D40")
@_ON_EACH
def test_a_drafter_whose_mlp_is_split_has_the_rows_of_its_step(call: Call, tree: Tree, seen: Seen) -> None:
    rows = call(tree, "group_calls.drafter_rows", own=3, of_step=8)
    assert rows == (3 if tree is Tree.PRISTINE else 8)
    seen(f"a drafter's split MLP gathers {rows} rows of a rank where others bring 8")


@pytest.mark.defect("D40")
@_ON_EACH
def test_each_draft_of_eagle_has_the_rows_of_its_step(call: Call, tree: Tree, seen: Seen) -> None:
    rows = call(tree, "group_calls.draft_rows", rows=8, requests=2)
    assert rows == [8] + [2 if tree is Tree.PRISTINE else 8] * 2
    seen(f"drafts of {', '.join(map(str, rows))} rows")


@pytest.mark.defect("D41")
@pytest.mark.parametrize("attention", ["mla", "sfa"])
@_ON_EACH
def test_an_idle_rank_joins_the_output_projection(call: Call, tree: Tree, attention: str, seen: Seen) -> None:
    rows = call(tree, "group_calls.rows_projected", attention=attention, split=True)
    assert rows == ([] if tree is Tree.PRISTINE else [3])
    seen("an idle rank projects nothing" if tree is Tree.PRISTINE else "an idle rank projects as many rows as others")


@pytest.mark.parametrize("attention", ["mla", "sfa"])
def test_a_whole_projection_is_left_out_as_before(call: Call, attention: str) -> None:
    assert [call(tree, "group_calls.rows_projected", attention=attention, split=False) for tree in Tree] == [[], []]


@pytest.mark.defect("D42")
@_ON_EACH
def test_all_ranks_choose_by_the_largest(call: Call, tree: Tree, seen: Seen) -> None:
    chosen = call(tree, "group_calls.communication_of", tokens=[513, 1])
    assert chosen == (["ALLTOALL", "MC2"] if tree is Tree.PRISTINE else ["ALLTOALL", "ALLTOALL"])
    assert call(tree, "group_calls.communication_of", tokens=[512, 1]) == ["MC2", "MC2"]
    seen(f"513 tokens beside 1: {' beside '.join(chosen)}")
