# SPDX-License-Identifier: Apache-2.0
"""A prompt of one token is a prefill, and the step after it a decode.

Upstream decides by the sequence lengths of the step before: it takes the prefill of such a prompt
for a decode, and the first decode for a prefill.
"""

from collections.abc import Callable

import engine_runs
import pytest
from engine import Outcome, Report, finished
from job import ONE_TOKEN_ROUND, EngineRun
from reference import TOKENS

PREFILL = (True, "PrefillNoCache")
DECODE = (False, "DecodeOnly")

ReportOf = Callable[[EngineRun], Report]
Seen = Callable[[str], None]


def _decisions(report: Report) -> list[tuple[bool, str]]:
    """(with_prefill, attention state) of each forward pass of the busy rank."""
    forwards = finished(report).ranks[0].forwards(ONE_TOKEN_ROUND.name)
    return [(line["with_prefill"], line["attention"]) for line in forwards]


@pytest.mark.defect("D17")
@pytest.mark.parametrize(
    "run",
    [engine_runs.EAGER, engine_runs.GRAPH, engine_runs.TORCHAIR, engine_runs.DEEPSEEK, engine_runs.SINGLE],
    ids=str,
)
def test_prefill_then_decode(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    assert _decisions(report_of(run)) == [PREFILL] + [DECODE] * (TOKENS - 1)
    seen("a prefill, then decodes")


@pytest.mark.defect("D17")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_GRAPH], ids=str)
def test_pristine_decides_by_the_step_before(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    found = _decisions(report_of(run))
    seen("prefill told as decode, decode as prefill")
    assert found[:2] == [(False, "PrefillNoCache"), (True, "DecodeOnly")]
    assert found[2:] == [DECODE] * (TOKENS - 2)


@pytest.mark.defect("D17")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_TORCHAIR], ids=str)
def test_pristine_torchair_dies_of_it(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """The prefill is sent into the decode graph, whose attention gets the metadata of a prefill."""
    report = report_of(run)
    seen("engine dies")
    assert report.ready, str(report)
    assert report.outcome is Outcome.ERROR, str(report)
    assert "is invalid for input of size" in report.ranks[0].log_tail, str(report)
