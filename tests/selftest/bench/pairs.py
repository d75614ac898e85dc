# SPDX-License-Identifier: Apache-2.0
"""One statistic for all that is measured: two sides in turn, the median ratio of the pairs, and its 95 % interval.

Imported by the scripts of tests/benchmarks too, in every Python that they run in: nothing but the standard library.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, inf

LEAST_PAIRS, MOST_PAIRS = 30, 240
RESOLUTION = 0.10
"""The widest interval, as a share of its ratio, that decides where it holds the target."""

Pair = tuple[float, float]
"""What the baseline took, and what ours did."""


@dataclass(frozen=True)
class Row:
    """One thing, measured."""

    question: str  # what the row helps to answer; a table of the document
    name: str  # what was measured, with its unit
    against: str  # what the baseline is
    # Medians.
    baseline: float
    ours: float
    ratio: float  # the median of the pairs' ratios, ours / baseline
    # Its 95 % interval; the ratio itself where it is a count.
    low: float
    high: float
    pairs: int  # how many; 0 of a count
    target: float | None = None  # what the ratio is at most; None where there is none
    why: str = ""  # the reason where the target is missed
    # The widest interval, as a share of the ratio, that decides where it holds the target.
    resolution: float = RESOLUTION

    @property
    def narrow(self) -> bool:
        return self.high - self.low <= self.resolution * self.ratio

    @property
    def verdict(self) -> str:
        """How the ratio stands to its target: an interval that holds both decides where it is narrow."""
        if self.target is None:
            return ""
        if self.high <= self.target:
            return "met"
        if self.low > self.target:
            return "missed"
        return f"met within {self.high / self.target - 1:.1%}" if self.narrow else "not decided"

    @property
    def decided(self) -> bool:
        """Whether no more pairs are needed: without a target, for the ratio itself."""
        return self.narrow if self.target is None else self.verdict != "not decided"


def compared(
    question: str,
    name: str,
    against: str,
    pairs: Sequence[Pair],
    target: float | None = None,
    why: str = "",
    resolution: float = RESOLUTION,
) -> Row:
    ratios = [ours / baseline for baseline, ours in pairs]
    low, high = interval(ratios)
    baseline, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio, count = statistics.median(ratios), len(pairs)
    return Row(question, name, against, baseline, ours, ratio, low, high, count, target, why, resolution)


def counted(
    question: str, name: str, against: str, baseline: float, ours: float, target: float | None = None, why: str = ""
) -> Row:
    ratio = ours / baseline if baseline else inf if ours else 1.0
    return Row(question, name, against, baseline, ours, ratio, ratio, ratio, 0, target, why)


def interval(values: Sequence[float]) -> Pair:
    """The median's 95 % interval, from order statistics, whatever the spread; fewer than six values have none."""
    count, below, total = len(values), 0, 2 ** len(values)
    rank = 0  # the interval is from this value to the one as far from the other end
    while 2 * (below + comb(count, rank)) <= 0.05 * total:
        below += comb(count, rank)
        rank += 1
    if rank == 0:
        return 0.0, inf
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]


def enough(row: Row, least: int = LEAST_PAIRS, most: int = MOST_PAIRS) -> bool:
    """Whether no more pairs are to be drawn. Looks at each doubling: after each pair, one stops by chance."""
    looks = {least << doubling for doubling in range(16)} | {most}
    return row.pairs >= most or (row.pairs in looks and row.decided)


def drawn(pair: Callable[[], Pair], row: Callable[[Sequence[Pair]], Row], least: int, most: int = MOST_PAIRS) -> Row:
    """Pairs until the row of them is decided, or ``most`` have been drawn."""
    pairs: list[Pair] = []
    while True:
        pairs.append(pair())
        if len(pairs) >= least and enough(found := row(pairs), least, most):
            return found
