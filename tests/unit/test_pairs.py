# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' statistic: pairs of two sides, their median ratio, its interval, and what that decides."""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf

import pytest

from selftest.bench.pairs import Pair, Row, compared, counted, drawn, interval

ROW = Row("Question", "thing (us)", "pristine", 2.0, 2.2, 1.1, 1.05, 1.15, 30, 1.0, "physics")


def noisy(seed: int, count: int, ratio: float = 1.0, noise: float = 0.2) -> list[Pair]:
    draw = random.Random(seed)
    return [(1.0, ratio * draw.lognormvariate(0, noise)) for _ in range(count)]


@pytest.mark.parametrize(("count", "noise"), [(6, 0.05), (30, 0.5), (101, 0.5)])
def test_the_interval_holds_the_true_ratio_in_95_of_100_runs(count: int, noise: float) -> None:
    rows = [compared("q", "n", "b", noisy(seed, count, 0.8, noise)) for seed in range(1000)]
    held = sum(row.low <= 0.8 <= row.high for row in rows)
    assert held >= 940
    assert held <= 990  # and it is not wider than it must be


def test_the_interval_is_from_order_statistics() -> None:
    assert interval([*range(30, 0, -1)]) == (10, 21)  # as tables of the sign test have it


def test_too_few_pairs_have_no_interval_and_decide_nothing() -> None:
    assert interval([1.0] * 5) == (0.0, inf)
    assert compared("q", "n", "b", [(1.0, 0.5)] * 5, 1.0).verdict == "not decided"
    assert compared("q", "n", "b", [(1.0, 0.5)] * 6, 1.0).verdict == "met"


@pytest.mark.parametrize(
    ("low", "high", "target", "verdict"),
    [
        (0.90, 1.00, 1.0, "met"),
        (1.01, 1.05, 1.0, "missed"),
        (0.20, 0.90, 1.0, "met"),  # wide, and all of it on one side
        (0.99, 1.02, 1.0, "met within 2.0%"),
        (0.94, 1.05, 1.0, "not decided"),
        (0.94, 1.05, None, ""),
    ],
)
def test_a_target_is_decided_by_all_of_the_interval(
    low: float, high: float, target: float | None, verdict: str
) -> None:
    row = replace(ROW, ratio=1.0, low=low, high=high, target=target)
    assert row.verdict == verdict
    assert row.decided == (verdict not in ("not decided", ""))


def test_a_finer_resolution_asks_for_more() -> None:
    assert replace(ROW, ratio=1.0, low=0.96, high=1.03, resolution=0.06).verdict == "not decided"
    assert replace(ROW, ratio=1.0, low=0.98, high=1.03, resolution=0.06).verdict == "met within 3.0%"


def test_more_pairs_are_drawn_until_the_row_is_decided_and_no_more_than_allowed() -> None:
    def of(noise: float, ratio: float) -> int:
        feed = iter(noisy(1, 1000, ratio, noise))
        return drawn(lambda: next(feed), lambda found: compared("q", "n", "b", found, 1.0), 8, 100).pairs

    assert of(0.01, 0.5) == 8
    assert of(0.3, 1.0) == 100
    assert of(0.12, 1.0) in (16, 32, 64)


def test_a_count_is_its_own_interval() -> None:
    row = counted("q", "reads", "pristine", 5, 1, 1.0)
    assert (row.ratio, row.low, row.high, row.verdict) == (0.2, 0.2, 0.2, "met")
    assert counted("q", "reads", "pristine", 0, 0, 1.0).verdict == "met"
    assert counted("q", "reads", "pristine", 0, 1, 1.0).verdict == "missed"
