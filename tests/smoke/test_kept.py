# SPDX-License-Identifier: Apache-2.0
"""What upstream's tree did is kept whole, by engine run, until a test that looks at it fails."""

from dataclasses import replace
from pathlib import Path

import engine_runs
import kept
import pytest
from engine import Outcome, RankReport, Report

pytestmark = pytest.mark.shared

REPORT = Report(
    engine_runs.PRISTINE_EAGER,
    Outcome.HANG,
    "no rank woke",
    (RankReport(({"step": 1}, {"round": "one", "tokens": {"0": [7]}}), ({"t": 0.5, "op": "x"},), "tail", None),),
    3.5,
)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    kept.store(REPORT, tmp_path / "made")
    found = kept.load(REPORT.run, tmp_path / "made")
    assert found == REPORT
    assert found.tokens("one") == {0: [7]}


def test_another_life_is_another_report(tmp_path: Path) -> None:
    kept.store(REPORT, tmp_path)
    for run in (engine_runs.PRISTINE_GRAPH, replace(REPORT.run, rounds=engine_runs.DP2_ROUNDS)):
        assert kept.load(run, tmp_path) is None


def test_a_dropped_report_is_gone(tmp_path: Path) -> None:
    kept.store(REPORT, tmp_path)
    kept.drop(REPORT.run, tmp_path)
    kept.drop(REPORT.run, tmp_path)
    assert kept.load(REPORT.run, tmp_path) is None
