# SPDX-License-Identifier: Apache-2.0
"""The burden over time as lines to draw: coordinates alone, which the template turns into SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from patchset.review.burden import Point

_WIDTH, _HEIGHT = 480, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 100, 12, 26
_APART = 14  # the least distance between two labels, in the unit of the drawing


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: what it counts; also its class in the page's style.
        last: its last value.
        path: for the `d` of a <path>, in steps: a commit's value holds until the next one.
        x, y: where its last value is drawn.
        label_y: where its label stands, clear of the others.
    """

    name: str
    last: int
    path: str
    x: float
    y: float
    label_y: float


@dataclass(frozen=True)
class Chart:
    """Lines over one scale.

    Attributes:
        title: what is shown.
        top: the value of the upper grid line; the lower one is 0.
        top_y, zero_y, left, right: where the grid lines are.
        series: the lines.
        width, height: of the drawing.
    """

    title: str
    top: int
    top_y: float
    zero_y: float
    left: float
    right: float
    series: tuple[Series, ...]
    width: int = _WIDTH
    height: int = _HEIGHT


def charts(points: Sequence[Point]) -> tuple[Chart, ...]:
    """Patches, and lines, each over its own scale."""
    lines = {
        "overlay": [point.overlay for point in points],
        "removed": [point.removed for point in points],
        "added": [point.added for point in points],
    }
    return (
        _chart("Patches", {"patches": [point.patches for point in points]}),
        _chart("Lines of patches and overlay", lines),
    )


def _chart(title: str, values: dict[str, list[int]]) -> Chart:
    top = ceiling(max((value for row in values.values() for value in row), default=0))
    zero_y, top_y = _HEIGHT - _BOTTOM, _TOP
    left, right = float(_LEFT), float(_WIDTH - _RIGHT)

    def y(value: int) -> float:
        return round(zero_y - (zero_y - top_y) * value / top, 1)

    labels = _labels({name: y(row[-1]) for name, row in values.items() if row})
    series = []
    for name, row in values.items():
        apart = (right - left) / max(len(row) - 1, 1)
        xs = [round(left + apart * at, 1) for at in range(len(row))] if len(row) > 1 else [left]
        path = f"M{xs[0]} {y(row[0])}" + "".join(f"H{x}V{y(value)}" for x, value in zip(xs[1:], row[1:], strict=True))
        series.append(Series(name, row[-1], path + f"H{right}", right, y(row[-1]), labels[name]))
    return Chart(title, top, top_y, zero_y, left, right, tuple(series))


def ceiling(value: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50, ... that is not below the value.

    >>> [ceiling(value) for value in (0, 3, 12, 792)]
    [1, 5, 20, 1000]
    """
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale >= value:
                return step * scale
        scale *= 10


def _labels(ys: dict[str, float]) -> dict[str, float]:
    """Heights of labels near the heights of their lines, and clear of each other."""
    placed: dict[str, float] = {}
    limit = _HEIGHT - _BOTTOM + 4.0
    for name in sorted(ys, key=lambda name: -ys[name]):  # from the bottom up
        placed[name] = round(min(ys[name] + 4, limit), 1)
        limit = placed[name] - _APART
    return placed
