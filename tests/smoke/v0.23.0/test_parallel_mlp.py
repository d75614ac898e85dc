# SPDX-License-Identifier: Apache-2.0
"""An MLP that is split over the DP ranks and gathers their rows, which need not be equal in a step without a graph.

The embedding and DeepSeek-V4's output projection, which are split too, have buffers of one size in this release.
"""

from collections.abc import Callable
from dataclasses import replace

import grouped
import pytest
from engine import Outcome, Report, finished
from job import EngineRun, Round, Tree

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]

_UNEQUAL = Round("two requests and one", ((0, 2), (4,)))
PATCHED = replace(grouped.MLP_EXPERTS, rounds=(_UNEQUAL,))
PRISTINE = replace(PATCHED, tree=Tree.PRISTINE)


@pytest.mark.defect("D26")
@pytest.mark.parametrize("run", [PRISTINE], ids=str)
def test_pristine_parallel_mlp_is_stuck_with_unequal_requests(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    report = report_of(run)
    assert report.ready and report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(report.outcome.value)


@pytest.mark.defect("D26")
@pytest.mark.parametrize("run", [PATCHED], ids=str)
def test_parallel_mlp_answers_unequal_requests(report_of: ReportOf, asked: Asked, run: EngineRun, seen: Seen) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        assert report.tokens(turn.name) == asked(run, turn), turn.name
    seen("answers")
