# SPDX-License-Identifier: Apache-2.0
"""What upstream's tree did is kept whole, by life, until a test that looks at it fails."""

from dataclasses import replace
from pathlib import Path

import kept
import lives
import pytest
from engine import Outcome, RankReport, Report

pytestmark = pytest.mark.shared

REPORT = Report(
    lives.PRISTINE_EAGER,
    Outcome.HANG,
    "no rank woke",
    (RankReport(({"step": 1}, {"round": "one", "tokens": {"0": [7]}}), ({"t": 0.5, "op": "x"},), "tail", None),),
    3.5,
)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    kept.store(REPORT, tmp_path / "made")
    found = kept.load(REPORT.life, tmp_path / "made")
    assert found == REPORT
    assert found.tokens("one") == {0: [7]}


def test_another_life_is_another_report(tmp_path: Path) -> None:
    kept.store(REPORT, tmp_path)
    for life in (lives.PRISTINE_GRAPH, replace(REPORT.life, rounds=lives.DP2_ROUNDS)):
        assert kept.load(life, tmp_path) is None


def test_a_dropped_report_is_gone(tmp_path: Path) -> None:
    kept.store(REPORT, tmp_path)
    kept.drop(REPORT.life, tmp_path)
    kept.drop(REPORT.life, tmp_path)
    assert kept.load(REPORT.life, tmp_path) is None
