# SPDX-License-Identifier: Apache-2.0
"""The benchmark's picture: ratios with their quartiles, and the step's cost with the number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from patchset.bench import scaling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from patchset.bench.report import Measure
    from patchset.bench.scaling import Cost

SIDES = {"pristine": "pristine", "device": "patched, device group", "cpu": "patched, CPU group"}


def draw(rows: Sequence[Measure], sync: Mapping[str, Any], cost: Cost, file: Path) -> None:
    """Writes an SVG to ``file``.

    Args:
        rows: ratios with quartiles, drawn as bars around 1.
        sync: metadata_sync.py's document.
        cost: the model, drawn up to its largest prediction.
        file: where it goes.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "patchset", "font.size": 8}):
        figure, (left, right) = pyplot.subplots(
            1, 2, figsize=(13, max(4.0, 0.5 + 0.19 * len(rows))), layout="constrained"
        )
        _ratios(left, rows)
        _growth(right, sync, cost)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


def _ratios(axes: Any, rows: Sequence[Measure]) -> None:
    for number, row in enumerate(reversed(rows)):
        assert row.ratio is not None
        assert row.spread is not None
        reach = [[max(0.0, row.ratio - row.spread[0])], [max(0.0, row.spread[1] - row.ratio)]]
        color = "tab:red" if row.missed else "tab:green" if row.limit is not None else "tab:blue"
        axes.errorbar([row.ratio], [number], xerr=reach, fmt="o", markersize=3, color=color)
        if row.limit is not None:
            axes.plot([row.limit], [number], "|", color="black")
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.set_xlim(left=0)
    axes.set_title("ratio to the baseline of the same run, quartiles; | target; red: missed")


def _growth(axes: Any, sync: Mapping[str, Any], cost: Cost) -> None:
    sizes = [int(size) for size in sync]
    for number, (side, name) in enumerate(SIDES.items()):
        axes.loglog(
            sizes,
            [sync[str(size)]["wall"][side] / 1000 for size in sizes],
            "o-",
            color=f"C{number}",
            label=f"{name}, measured",
        )
    larger = [2**power for power in range(1, 11)]
    for color, group in (("C0", scaling.PRISTINE), ("C2", scaling.CPU)):
        predicted = [cost.cluster(ranks, scaling.words_of(group, ranks)) / 1000 for ranks in larger]
        axes.loglog(larger, predicted, "--", color=color, label=f"{group}, model with a core a rank")
    axes.set_xlabel("DP ranks")
    axes.set_ylabel("ms a step, over gloo")
    axes.set_title("metadata of a step")
    axes.legend()
