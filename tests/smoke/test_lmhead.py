# SPDX-License-Identifier: Apache-2.0
"""An lm head that is split over the DP ranks, with a drafter that has one too."""

from collections.abc import Callable, Iterable

import drafted
import pytest
from checkpoints import VOCABULARY, Model
from drafted import DraftedRun
from engine import Outcome, RankReport, Report, finished
from job import EngineRun, Round
from steptrace import Collective

ReportOf = Callable[[EngineRun], Report]
Expected = Callable[[Model], dict[int, list[int]]]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]


MTP_HEAD = ("D9", "D9a", "D9b")
PATCHED = [
    pytest.param(run, marks=pytest.mark.defect(*defects), id=str(run))
    for run, defects in (
        (drafted.LMHEAD, MTP_HEAD),
        (drafted.LMHEAD_KV_BOTH, MTP_HEAD),
        (drafted.LMHEAD_MIXED, MTP_HEAD),
        (drafted.LMHEAD_EAGLE3, ("D9c",)),
    )
]


@pytest.mark.parametrize("run", PATCHED)
def test_tokens_are_those_of_a_whole_head(report_of: ReportOf, asked: Asked, run: DraftedRun) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        want = asked(run, turn)
        assert {index: report.tokens(turn.name)[index] for index in want} == want, turn.name


@pytest.mark.defect("D9")
@pytest.mark.parametrize("run", [drafted.PRISTINE_LMHEAD], ids=str)
def test_pristine_sees_half_of_the_vocabulary(
    report_of: ReportOf, expected: Expected, run: DraftedRun, seen: Seen
) -> None:
    """vLLM 0.10.1.1 does not let its LogitsProcessor be replaced: the head is split, its logits are never joined."""
    tokens = finished(report_of(run)).tokens(drafted.ALIKE_ROUND.name)
    assert tokens[0] != expected(run.model)[0]
    assert max(tokens[0]) < VOCABULARY // run.dp_size
    seen("tokens of half the vocabulary")


@pytest.mark.standin  # on NPUs every rank runs rank.py as it is
@pytest.mark.defect("D9a")
@pytest.mark.parametrize("run", [drafted.PRISTINE_LMHEAD_MIXED], ids=str)
def test_pristine_cuts_logits_of_drafts_beside_a_prefill(
    report_of: ReportOf, expected: Expected, run: DraftedRun, seen: Seen
) -> None:
    """The ranks have equal batches, so they agree; a batch with a prefill gets one row a request, not two."""
    report = report_of(run)
    assert report.tokens(drafted.ALIKE_ROUND.name) == {0: expected(run.model)[0]}, str(report)
    assert report.outcome is Outcome.ERROR and "index" in report.ranks[0].log_tail, str(report)
    seen("index out of range")


GATHER, EXCHANGE = "all_gather_into_tensor", "all_to_all"  # of all ranks' rows, then of their logits


def _shapes(collectives: Iterable[Collective], op: str) -> list[tuple[int, ...]]:
    """Of what these collectives of the lm-head group make."""
    return [one.shape for one in collectives if (one.op, one.group) == (op, "lmheadtp")]


def _all_shapes(rank: RankReport, op: str) -> list[tuple[int, ...]]:
    return _shapes((Collective.of(event) for event in rank.trace if event["kind"] == "collective"), op)


@pytest.mark.standin
@pytest.mark.defect("D9b")
@pytest.mark.parametrize("run", [drafted.PRISTINE_LMHEAD_KV_BOTH], ids=str)
def test_pristine_idle_rank_waits_for_the_drafters_head(report_of: ReportOf, run: DraftedRun, seen: Seen) -> None:
    report = report_of(run)
    assert report.ready, str(report)
    assert report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    vocabularies = [_all_shapes(rank, EXCHANGE)[-1][1] for rank in report.ranks]
    assert vocabularies == [VOCABULARY, VOCABULARY // run.dp_size], "the busy rank's whole head, half of the idle one's"
    seen(report.outcome.value)


@pytest.mark.standin
@pytest.mark.defect("D9c")
@pytest.mark.parametrize("run", [drafted.PRISTINE_LMHEAD_EAGLE3], ids=str)
def test_pristine_drafters_gather_their_own_numbers_of_rows(report_of: ReportOf, run: DraftedRun, seen: Seen) -> None:
    """Both ranks are busy, so that nothing else of Eagle's goes wrong (D5)."""
    report = report_of(run)
    assert report.ready and report.outcome is not Outcome.DONE, str(report)
    rows = [_all_shapes(rank, GATHER)[-1][0] for rank in report.ranks]
    assert rows == [2 * run.dp_size, 1 * run.dp_size], "each takes the other's number for its own"
    seen(report.outcome.value)


@pytest.mark.standin
@pytest.mark.defect("D9c")
@pytest.mark.parametrize("run", [drafted.LMHEAD_EAGLE3], ids=str)
def test_every_rank_joins_each_draft_with_as_many_rows(report_of: ReportOf, run: DraftedRun) -> None:
    """Busy or idle: the target's logits and those of two drafts, in every step."""
    first, second = (
        [_shapes(step.collectives, GATHER) for step in rank.serving_steps()] for rank in finished(report_of(run)).ranks
    )
    assert first == second
    assert {(len(shapes), len(set(shapes))) for shapes in first} == {(3, 1)}
