# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measured: tables of ratios, and which targets are missed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from patchset.system.terminal import Terminal
from selftest.bench.scaling import Cost, Prediction


@dataclass(frozen=True)
class Measure:
    """One quantity of both sides.

    Attributes:
        name: what was measured, with its unit.
        baseline, ours: medians.
        ratio: ours / baseline: of times the median over pairs of blocks; None where the baseline is 0.
        spread: first and third quartile of the pairs' ratios; None for counts.
        limit: the ratio that it should not exceed; None where there is no target.
    """

    name: str
    baseline: float
    ours: float
    ratio: float | None
    spread: tuple[float, float] | None = None
    limit: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the target is missed beyond noise: with three quarters of the pairs, where there are pairs."""
        if self.limit is None or self.ratio is None:
            return False
        return (self.ratio if self.spread is None else self.spread[0]) > self.limit

    @property
    def verdict(self) -> str:
        """How the ratio stands to its target."""
        if self.limit is None or self.ratio is None:
            return ""
        if self.missed:
            return f"misses {self.limit:g}"
        return f"meets {self.limit:g}" if self.ratio <= self.limit else f"{self.limit:g} within noise"


@dataclass(frozen=True)
class Table:
    """What was measured against one baseline.

    Attributes:
        baseline, ours: what the two sides are.
        rows: the quantities.
    """

    baseline: str
    ours: str
    rows: tuple[Measure, ...]


@dataclass(frozen=True)
class BenchReport:
    """What `make bench` measured; also in build/<set>/bench/bench.json.

    Attributes:
        set_name: the set.
        tables: ratios.
        cost: gloo's cost model, fitted to the measured steps.
        predictions: what it says of more ranks.
    """

    set_name: str
    tables: tuple[Table, ...]
    cost: Cost
    predictions: tuple[Prediction, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "set": self.set_name,
            "tables": [
                {
                    "baseline": table.baseline,
                    "ours": table.ours,
                    "rows": [asdict(row) | {"verdict": row.verdict} for row in table.rows],
                }
                for table in self.tables
            ],
            "cost": asdict(self.cost),
            "predictions": [asdict(one) for one in self.predictions],
        }


def show(report: BenchReport, terminal: Terminal) -> None:
    """Prints the tables, and the targets that are missed."""
    for table in report.tables:
        rows = [
            (
                row.name,
                f"{row.baseline:.4g}",
                f"{row.ours:.4g}",
                "-" if row.ratio is None else f"{row.ratio:.2f}",
                "-" if row.spread is None else f"{row.spread[0]:.2f}-{row.spread[1]:.2f}",
                row.verdict,
            )
            for row in table.rows
        ]
        columns = ("measured", table.baseline, table.ours, "ratio", "quartiles", "target")
        title = f"{table.ours} against {table.baseline}, {report.set_name}"
        terminal.table(title, columns, rows, right=" ".join(columns[1:5]))
    cost = report.cost
    sizes = [
        (str(one.ranks), one.group, str(one.bytes), str(one.rounds), "-" if one.ms is None else f"{one.ms:.2f}")
        for one in report.predictions
    ]
    title = (
        f"more ranks, each with a core of its own: {cost.base:.0f} us + 2(n-1) ({cost.hop:.1f} us"
        f" + {cost.word:.2f} us x words / n), fitted to within {cost.error:.0%}"
    )
    terminal.table(title, ("ranks", "group", "bytes", "rounds", "ms"), sizes, right="ranks bytes rounds ms")
    for table in report.tables:
        for row in table.rows:
            if row.missed:
                terminal.note(f"target missed: {row.name}: {row.ratio:.2f} instead of {row.limit:g}")
