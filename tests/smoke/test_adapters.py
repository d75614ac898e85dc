# SPDX-License-Identifier: Apache-2.0
"""Steps without a request, where a model has low-rank adapters."""

from collections.abc import Callable

import adapters
import pytest
from checkpoints import Model
from engine import Outcome, Report, finished
from job import EngineRun

ReportOf = Callable[[EngineRun], Report]
Expected = Callable[[Model], dict[int, list[int]]]
Seen = Callable[[str], None]

_GRAPH = pytest.param(adapters.GRAPH, id=str(adapters.GRAPH), marks=pytest.mark.defect("D37"))


@pytest.mark.parametrize("run", [pytest.param(adapters.EAGER, id=str(adapters.EAGER)), _GRAPH])
def test_tokens_with_adapters(report_of: ReportOf, expected: Expected, run: EngineRun) -> None:
    report, want = finished(report_of(run)), expected(run.model)
    for turn in run.rounds:
        assert report.tokens(turn.name) == {i: want[i] for rank in range(2) for i in turn.asked(rank)}, turn.name


@pytest.mark.defect("D37")
@pytest.mark.parametrize("run", [adapters.PRISTINE_GRAPH], ids=str)
def test_pristine_idle_step_overflows_the_buffers_of_adapters(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """Rank 0 is idle beside a prefill of more tokens than it may hold requests."""
    report = report_of(run)
    assert report.outcome is Outcome.ERROR, str(report)
    assert report.ready, str(report)
    assert "RuntimeError: The size of tensor a (8) must match the size of tensor b (16)" in report.ranks[0].log_tail
    seen("the idle rank dies of RuntimeError")
