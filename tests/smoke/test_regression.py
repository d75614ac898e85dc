# SPDX-License-Identifier: Apache-2.0
"""Fewer requests than ranks: what hangs on the pristine tree and must not on the patched one."""

from collections.abc import Callable

import engine_runs
import pytest
from checkpoints import Model
from engine import Outcome, Report, finished
from job import EngineRun

ReportOf = Callable[[EngineRun], Report]
Seen = Callable[[str], None]
Expected = Callable[[Model], dict[int, list[int]]]

ROUND = "one prompt"


def _gets_stuck(report: Report) -> None:
    assert report.ready, f"the engine did not start, which shows nothing\n{report}"
    assert report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    assert not report.tokens(ROUND), str(report)


def _answers(report: Report, expected: dict[int, list[int]]) -> None:
    assert finished(report).tokens(ROUND) == {0: expected[0]}


@pytest.mark.quick
@pytest.mark.defect("D1")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_EAGER, engine_runs.PRISTINE_EP16], ids=str)
def test_eager_one_request_is_stuck_without_the_patches(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """The idle rank, which may not synchronise under enforce_eager, takes the decode path of the
    mixture of experts (all_gather, or MC2) while the busy one prefills (broadcast, or all-to-all)."""
    report = report_of(run)
    _gets_stuck(report)
    seen(report.outcome.value)


@pytest.mark.quick
@pytest.mark.defect("D1")
@pytest.mark.parametrize("run", [engine_runs.EAGER, engine_runs.EP16], ids=str)
def test_eager_one_request_is_answered_with_them(
    report_of: ReportOf, expected: Expected, run: EngineRun, seen: Seen
) -> None:
    _answers(report_of(run), expected(run.model))
    seen("answers")


@pytest.mark.quick
@pytest.mark.defect("D18")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_GRAPH_EP], ids=str)
def test_graphs_of_other_sizes_end_the_engines_without_the_patches(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    """A busy rank replays the graph that its prompt is padded to, an idle one that of a single row."""
    report = report_of(run)
    assert report.ready, f"the engine did not start, which shows nothing\n{report}"
    assert report.outcome in (Outcome.HANG, Outcome.ABORT, Outcome.ERROR), str(report)
    assert not report.tokens(ROUND), str(report)
    seen(report.outcome.value)


@pytest.mark.quick
@pytest.mark.defect("D18")
@pytest.mark.parametrize("run", [engine_runs.GRAPH, engine_runs.GRAPH_EP], ids=str)
def test_graph_one_request_is_answered_with_them(
    report_of: ReportOf, expected: Expected, run: EngineRun, seen: Seen
) -> None:
    _answers(report_of(run), expected(run.model))
    seen("answers")


@pytest.mark.quick
@pytest.mark.defect("D3")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_KV_BOTH, engine_runs.PRISTINE_KV_BOTH_EAGER], ids=str)
def test_kv_both_idle_rank_is_stuck_without_the_patches(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """A KV producer's idle rank says "prefill" after the others have agreed on "decode": the
    prompt's own step passes, the first decode step does not."""
    report = report_of(run)
    _gets_stuck(report)
    seen(f"{report.outcome.value} at the first decode")
    assert all(any("step" in line for line in rank.lines) for rank in report.ranks), str(report)


@pytest.mark.quick
@pytest.mark.defect("D3")
@pytest.mark.parametrize("run", [engine_runs.KV_BOTH_TORCHAIR, engine_runs.KV_BOTH], ids=str)
def test_kv_both_idle_rank_follows_with_them(
    report_of: ReportOf, expected: Expected, run: EngineRun, seen: Seen
) -> None:
    _answers(report_of(run), expected(run.model))
    seen("answers")


@pytest.mark.quick
@pytest.mark.defect("D21")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_FULL_DECODE], ids=str)
def test_full_decode_graph_beside_a_prefill_is_stuck_without_the_patches(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    """The idle rank takes its one row for a decode and replays (all_gather); the busy one prefills eagerly
    (broadcast)."""
    report = report_of(run)
    _gets_stuck(report)
    seen(report.outcome.value)


@pytest.mark.quick
@pytest.mark.defect("D21")
@pytest.mark.parametrize("run", [engine_runs.FULL_DECODE], ids=str)
def test_full_decode_graph_waits_for_decodes_on_every_rank(
    report_of: ReportOf, expected: Expected, run: EngineRun, seen: Seen
) -> None:
    report = finished(report_of(run))
    _answers(report, expected(run.model))
    modes = [[line["graph"] for line in rank.forwards(ROUND)] for rank in report.ranks]
    assert modes[0] == modes[1] == ["NONE"] + ["FULL"] * (len(modes[0]) - 1)
    seen("answers; both ranks eager for the prefill, then in the graph")
