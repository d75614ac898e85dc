# SPDX-License-Identifier: Apache-2.0
"""Layers that are split over DP ranks, where each rank has pipeline stages: a real engine, two ranks of two stages."""

from collections.abc import Callable

import pytest
import staged
from engine import Outcome, Report, finished
from job import EngineRun, Round

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]


def _holds_its_tokens(report: Report, asked: Asked) -> None:
    for turn in finished(report).run.rounds:
        assert report.tokens(turn.name) == asked(report.run, turn), turn.name


@pytest.mark.parametrize("run", [staged.PRISTINE_WHOLE], ids=str)
def test_pristine_serves_stages_of_whole_layers(report_of: ReportOf, asked: Asked, run: EngineRun) -> None:
    """So that what follows is about the groups."""
    _holds_its_tokens(report_of(run), asked)


@pytest.mark.defect("D43")
@pytest.mark.parametrize("run", [staged.PRISTINE], ids=str)
def test_pristine_parallel_layers_wait_for_another_stage(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    report = report_of(run)
    assert report.outcome is Outcome.ERROR and report.why.startswith("not started"), str(report)
    seen("the engine does not start")


@pytest.mark.defect("D43")
@pytest.mark.parametrize("run", [staged.PATCHED], ids=str)
def test_parallel_layers_meet_over_the_ranks_of_their_stage(
    report_of: ReportOf, asked: Asked, run: EngineRun, seen: Seen
) -> None:
    _holds_its_tokens(report_of(run), asked)
    seen("tokens right")
