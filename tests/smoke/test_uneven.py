# SPDX-License-Identifier: Apache-2.0
"""Ranks that bring unlike batches to a step: how many rows each computes, where they go, which graph they replay."""

from collections.abc import Callable
from typing import Any

import pytest
import uneven
from engine import Outcome, Report, finished
from job import EngineRun, Round, Tree
from reference import PROMPTS

pytestmark = pytest.mark.standin

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]
Ask = Callable[..., Any]

PREFILL = len(PROMPTS[3])
"""Tokens of the prompt that one rank prefills in LATE_ROUND and beside an idle rank."""


@pytest.mark.parametrize("run", uneven.PATCHED, ids=str)
def test_tokens_are_those_of_the_model(report_of: ReportOf, asked: Asked, run: EngineRun) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        assert report.tokens(turn.name) == asked(run, turn), turn.name


def _smallest_beside_a_prefill(report: Report) -> set[int]:
    """Rows of the rank that does not prefill, over the steps in which the other one does."""
    found = set()
    for turn in report.run.rounds:
        for pair in zip(*(rank.forwards(turn.name) for rank in report.ranks), strict=True):
            rows = sorted(line["rows"] for line in pair)
            if rows[1] >= PREFILL:
                found.add(rows[0])
    return found


@pytest.mark.defect("D24")
@pytest.mark.parametrize("run", [uneven.PRISTINE_FULL_DECODE], ids=str)
def test_pristine_ranks_compute_the_rows_of_another_ranks_prefill(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    rows = _smallest_beside_a_prefill(finished(report_of(run)))
    assert rows == {PREFILL}, rows
    seen(f"{PREFILL} rows beside a prefill of {PREFILL}")


@pytest.mark.defect("D24")
@pytest.mark.parametrize("run", uneven.OWN_ROWS, ids=str)
def test_a_rank_computes_its_own_rows_beside_a_prefill(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    rows = _smallest_beside_a_prefill(finished(report_of(run)))
    assert rows == {1}, rows
    seen(f"1 row beside a prefill of {PREFILL}")


def _routed_beside_a_prefill(report: Report) -> list[list[int]]:
    """Tokens by expert, over both ranks, of each layer of a step with the long prefill; a gathered row counts once."""
    found = []
    layers = [
        [line for line in rank.lines if "moe" in line and not line["profile"] and not line["capturing"]]
        for rank in report.ranks
    ]
    for pair in zip(*layers, strict=True):
        if max(line["rows"] for line in pair) >= PREFILL:
            found.append(pair[0]["experts"])
    return found


def _most_of_an_expert(report: Report) -> float:
    """Of the rows of a layer beside a prefill, twice as many as there are tokens, the share of the busiest expert."""
    histograms = _routed_beside_a_prefill(report)
    assert histograms
    return max(max(one) / sum(one) for one in histograms)


@pytest.mark.defect("D24")
@pytest.mark.parametrize("run", [uneven.PRISTINE_FULL_DECODE, uneven.PRISTINE_EAGER], ids=str)
def test_pristine_sends_rows_of_nobody_to_the_same_experts(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    share = _most_of_an_expert(finished(report_of(run)))
    assert share > 0.2
    seen(f"the busiest of 16 experts gets {share:.0%}")


@pytest.mark.defect("D24")
@pytest.mark.parametrize("run", uneven.OWN_ROWS, ids=str)
def test_rows_of_nobody_are_spread(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    share = _most_of_an_expert(finished(report_of(run)))
    assert share < 0.2
    seen(f"the busiest of 16 experts gets {share:.0%}")


def _modes(report: Report) -> set[tuple[str, str]]:
    """Which graphs both ranks were in, over all steps."""
    return {
        (one["graph"], other["graph"])
        for turn in report.run.rounds
        for one, other in zip(*(rank.forwards(turn.name) for rank in report.ranks), strict=True)
    }


@pytest.mark.defect("D23")
@pytest.mark.parametrize("run", [uneven.PRISTINE_CONNECTED], ids=str)
def test_pristine_ranks_replay_beside_ranks_that_run_eager(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """gloo's MC2 meets all the same; HCCL's with AIV does not."""
    unlike = {pair for pair in _modes(finished(report_of(run))) if len(set(pair)) > 1}
    assert unlike
    seen(" and ".join(sorted("beside ".join(f"{mode} " for mode in pair).strip() for pair in unlike)))


@pytest.mark.defect("D23")
@pytest.mark.parametrize("run", uneven.PATCHED, ids=str)
def test_ranks_are_in_the_same_graph(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    modes = _modes(finished(report_of(run)))
    assert modes and all(one == other for one, other in modes), modes
    seen(f"{' or '.join(sorted({one for one, _ in modes}))} on both ranks")


@pytest.mark.defect("D26")
@pytest.mark.parametrize("run", [uneven.PRISTINE_EMBEDDING], ids=str)
def test_pristine_embedding_parallelism_is_stuck_with_unequal_requests(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    report = report_of(run)
    assert report.ready and report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(report.outcome.value)


@pytest.mark.defect("D26")
@pytest.mark.parametrize("run", [uneven.EMBEDDING, uneven.EMBEDDING_FULL_DECODE], ids=str)
def test_embedding_parallelism_answers_unequal_requests(
    report_of: ReportOf, asked: Asked, run: EngineRun, seen: Seen
) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        assert report.tokens(turn.name) == asked(run, turn), turn.name
    seen("answers")


# Drafts of a step, and what the stand-in of a model makes of them: each forward's number.
_DRAFTS = 3


@pytest.mark.defect("D27", tree=Tree.PRISTINE)
def test_pristine_prefill_with_context_parallelism_drafts_less_than_idle_ranks(ask: Ask, seen: Seen) -> None:
    prefills, idles = (
        ask(Tree.PRISTINE, "draft_after_a_step", prefill=prefill, context_parallel=2, exchanges=True)
        for prefill in (True, False)
    )
    assert (prefills["forwards"], idles["forwards"]) == (1, _DRAFTS)
    seen(f"1 forward of the drafter beside {_DRAFTS}")


@pytest.mark.defect("D27", tree=Tree.PATCHED)
def test_a_prefill_with_context_parallelism_drafts_as_often_as_idle_ranks(ask: Ask, seen: Seen) -> None:
    """The forwards that are for the others attend to nothing, and what is returned is what was."""
    found = ask(Tree.PATCHED, "draft_after_a_step", prefill=True, context_parallel=2, exchanges=True)
    assert found == {"forwards": _DRAFTS, "attending": 1, "drafts": [[1] * _DRAFTS] * 2}
    seen(f"{_DRAFTS} forwards of the drafter on every rank")


@pytest.mark.parametrize(("context_parallel", "exchanges"), [(1, True), (2, False)])
def test_other_prefills_draft_as_before(ask: Ask, context_parallel: int, exchanges: bool) -> None:
    before, after = (
        ask(tree, "draft_after_a_step", prefill=True, context_parallel=context_parallel, exchanges=exchanges)
        for tree in (Tree.PRISTINE, Tree.PATCHED)
    )
    assert before == after


@pytest.mark.defect("D34")
@pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)
def test_a_drafter_is_told_what_its_step_has_agreed_on(ask: Ask, tree: Tree, seen: Seen) -> None:
    found = ask(tree, "drafter_counts", rows=5)
    reductions = 1 if tree is Tree.PRISTINE else 0
    assert found == {"rows": 5, "of_all": [5, 5], "reductions": reductions}
    seen(f"{reductions} more all-reduces a step")
