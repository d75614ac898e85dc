# SPDX-License-Identifier: Apache-2.0
"""Greedy tokens equal Hugging Face's on the same checkpoint, however the requests are spread."""

from collections.abc import Callable

import engine_runs
import pytest
from checkpoints import Model
from engine import Report, finished
from job import EngineRun


@pytest.mark.quick
@pytest.mark.parametrize("run", engine_runs.PATCHED, ids=str)
def test_tokens_equal_reference(
    report_of: Callable[[EngineRun], Report], expected: Callable[[Model], dict[int, list[int]]], run: EngineRun
) -> None:
    report = finished(report_of(run))
    want = expected(run.model)
    for turn in run.rounds:
        asked = {index: want[index] for rank in range(run.dp_size) for index in turn.asked(rank)}
        assert report.tokens(turn.name) == asked, turn.name


# The engine runs that differ from them in that alone.
_TRACED = (
    engine_runs.EAGER,
    engine_runs.GRAPH,
    engine_runs.FULL_DECODE,
    engine_runs.TORCHAIR,
    engine_runs.TORCHAIR_DEEPSEEK,
)


@pytest.mark.standin
@pytest.mark.parametrize(("run", "traced"), zip(engine_runs.UNTRACED, _TRACED, strict=True), ids=str)
def test_tokens_do_not_depend_on_the_trace(
    report_of: Callable[[EngineRun], Report], run: EngineRun, traced: EngineRun
) -> None:
    """The stand-in computes the same with its trace and without."""
    without, with_trace = finished(report_of(run)), finished(report_of(traced))
    for turn in run.rounds:
        assert without.tokens(turn.name) == with_trace.tokens(turn.name), turn.name
