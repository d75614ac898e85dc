# SPDX-License-Identifier: Apache-2.0
"""Functions of this release that decide for a rank, without an engine: on the pristine tree, and on the patched one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Model
from job import Tree

pytestmark = pytest.mark.standin

Call = Callable[..., Any]
Seen = Callable[[str], None]

KERNEL_ROWS = 256  # of MC2 on an A2
DRAFTS = 3
_ON_EACH = pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)


@pytest.mark.defect("D7")
@_ON_EACH
def test_mc2_takes_what_its_kernel_takes(call: Call, tree: Tree, seen: Seen) -> None:
    """Its capacity follows the largest graph: the kernel's rows must bound it."""
    rows = call(tree, "calls.mc2_rows", largest_graph=2 * KERNEL_ROWS)
    assert rows == (2 * KERNEL_ROWS if tree is Tree.PRISTINE else KERNEL_ROWS)
    seen(f"MC2 up to {rows} rows for a graph of {2 * KERNEL_ROWS}, its kernel takes {KERNEL_ROWS}")


@pytest.mark.defect("D34")
@_ON_EACH
def test_a_drafter_is_told_what_its_step_agreed_on(call: Call, tree: Tree, seen: Seen) -> None:
    found = call(tree, "calls.drafter_counts", rows=5)
    reductions = 1 if tree is Tree.PRISTINE else 0
    assert found == {"rows": 5, "of_all": [5, 5], "reductions": reductions}
    seen(f"{reductions} more all-reduces a step")


@pytest.mark.defect("D29")
@pytest.mark.parametrize("stage", ["prefill", "decode"])
@_ON_EACH
def test_ranks_count_the_same_steps(call: Call, tree: Tree, stage: str, seen: Seen) -> None:
    """Where loads of experts are collected in one stage alone, and one rank prefills beside a decode."""
    by_rank = call(tree, "calls.loads_counted", stage=stage, rows=[200, 1], threshold=8)
    prefills = stage == "prefill"
    assert by_rank == ([prefills, not prefills] if tree is Tree.PRISTINE else [prefills] * 2)
    seen("one of two ranks counts the step" if tree is Tree.PRISTINE else "both ranks or none")


@pytest.mark.defect("D27", tree=Tree.PRISTINE)
def test_pristine_prefill_drafts_less_than_idle_ranks(call: Call, seen: Seen) -> None:
    prefills, idles = (
        call(Tree.PRISTINE, "calls.draft_after_a_step", prefill=prefill, context_parallel=2, exchanges=True)
        for prefill in (True, False)
    )
    assert (prefills["forwards"], idles["forwards"]) == (1, DRAFTS)
    seen(f"1 forward of the drafter beside {DRAFTS}")


@pytest.mark.defect("D27", tree=Tree.PATCHED)
def test_a_prefill_drafts_as_often_as_idle_ranks(call: Call, seen: Seen) -> None:
    """The forwards that are for the others attend to nothing, and what is returned is what was."""
    found = call(Tree.PATCHED, "calls.draft_after_a_step", prefill=True, context_parallel=2, exchanges=True)
    assert found == {"forwards": DRAFTS, "attending": 1, "drafts": [[1] * DRAFTS] * 2}
    seen(f"{DRAFTS} forwards of the drafter on every rank")


@pytest.mark.parametrize(("context_parallel", "exchanges"), [(1, True), (2, False)])
def test_other_prefills_draft_as_they_did(call: Call, context_parallel: int, exchanges: bool) -> None:
    before, after = (
        call(tree, "calls.draft_after_a_step", prefill=True, context_parallel=context_parallel, exchanges=exchanges)
        for tree in Tree
    )
    assert before == after


@pytest.mark.defect("D36", refuted=True)
@pytest.mark.parametrize("tree", [Tree.PRISTINE], ids=lambda tree: tree.value)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["steps in turn", "asynchronous"])
def test_no_step_with_tokens_ends_before_it_has_begun(
    call: Call, checkpoint: Callable[[Model], Path], tree: Tree, asynchronous: bool, seen: Seen
) -> None:
    """Under aborts, preemptions and names that come again: the batch has every request that is scheduled."""
    made = str(checkpoint(Model.QWEN3_MOE))
    found = call(tree, "early_ends.steps_with_tokens", checkpoint=made, steps=2000, seed=0, asynchronous=asynchronous)
    assert found["early"] == 0 and found["begun"] > 1000 and found["of nobody"] == 1, found
    assert min(found[what] for what in ("empty", "aborted", "preempted", "resumed")) > 0, found
    seen("no step with tokens ends early: its batch has every request that is scheduled")
