# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding under DP: a drafter follows the step instead of synchronising on its own."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import drafted
import pytest
from drafted import DraftedRun, Drafter
from engine import Outcome, Report, finished
from job import EngineRun, Round

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]


PATCHED = [
    pytest.param(run, marks=pytest.mark.defect(defect), id=str(run))
    for run, defect in ((drafted.MTP, "D16"), (drafted.MTP_EP, "D16"), (drafted.EAGLE3, "D5"))
]


@pytest.mark.parametrize("run", PATCHED)
def test_tokens_are_those_without_drafts(report_of: ReportOf, asked: Asked, run: DraftedRun) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        want = asked(run, turn)
        assert {index: report.tokens(turn.name)[index] for index in want} == want, turn.name
    if run.drafter is Drafter.MTP:
        verified = {line["attention"] for rank in report.ranks for line in rank.lines if "forward" in line}
        assert "SpecDecoding" in verified, "no draft was ever verified"


@pytest.mark.standin
@pytest.mark.parametrize("run", PATCHED)
def test_step_and_drafts_share_one_collective(report_of: ReportOf, run: DraftedRun, release: Mapping[str, Any]) -> None:
    """Busy and idle: the step's own, on the group that is the release's default; none of vLLM's. None at all where
    target and drafter are dense."""
    wanted = () if run.drafter is Drafter.EAGLE3 else (release["metadata"],)
    for number, rank in enumerate(finished(report_of(run)).ranks):
        found = Counter(tuple(one.device for one in step.metadata_collectives) for step in rank.serving_steps())
        assert set(found) == {wanted}, f"rank {number}: {dict(found)}"


@pytest.mark.standin
@pytest.mark.defect("D16")
@pytest.mark.parametrize("run", [drafted.PRISTINE_MTP_EP], ids=str)
def test_pristine_mtp_reduces_counts_twice_a_step(report_of: ReportOf, run: DraftedRun, seen: Seen) -> None:
    for number, rank in enumerate(finished(report_of(run)).ranks):
        found = Counter(tuple(one.device for one in step.metadata_collectives) for step in rank.serving_steps())
        (devices,) = found
        assert devices in {("cpu", "cpu"), ("npu", "npu")}, f"rank {number}: {dict(found)}"
    seen("two gloo all-reduces a step" if "cpu" in devices else "two all-reduces a step")


@pytest.mark.defect("D5", refuted=True)
@pytest.mark.parametrize("run", [drafted.PRISTINE_EAGLE3_ALONE], ids=str)
def test_pristine_eagle_does_not_serve(report_of: ReportOf, run: DraftedRun, seen: Seen) -> None:
    """One rank, one request: where the drafter's own code raises, data parallelism adds nothing."""
    report = report_of(run)
    assert report.ready and report.outcome is Outcome.ERROR, str(report)
    assert "no attribute 'attn_metadata_builder'" in report.ranks[0].log_tail, str(report)
    seen("Eagle does not serve in this release: AttributeError at the first request, with one rank too")


@pytest.mark.defect("D5")
@pytest.mark.parametrize("run", [drafted.PRISTINE_EAGLE3], ids=str)
def test_pristine_eagle_is_stuck_beside_an_idle_rank(report_of: ReportOf, run: DraftedRun, seen: Seen) -> None:
    report = report_of(run)
    assert report.ready, str(report)
    assert report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(report.outcome.value)
