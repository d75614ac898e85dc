# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: each thing against its baseline, measured in pairs within one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchset import paths, runtime, trees
from patchset.errors import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal

LIMIT_S = 900.0
RANKS = (2, 4)


@dataclass(frozen=True)
class Measure:
    """One quantity of both sides.

    Attributes:
        name: what was measured, with its unit.
        baseline, ours: medians.
        ratio: ours / baseline: of times the median over pairs of blocks; None where the baseline is 0.
        spread: first and third quartile of the pairs' ratios; None for counts.
    """

    name: str
    baseline: float
    ours: float
    ratio: float | None
    spread: tuple[float, float] | None = None


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
    """What `patchset bench` measured; also in build/<set>/bench.json."""

    set_name: str
    tables: tuple[Table, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"set": self.set_name, "tables": [asdict(table) for table in self.tables]}


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> BenchReport:
    """Runs tests/benchmarks.

    Raises:
        UsageError: the set has not been applied.
        Unavailable: the runtime could not be made.
        Findings: a benchmark failed.
    """
    both = trees.both(patch_set, terminal, offline=offline)
    made = both.runtime
    work = paths.build_dir(patch_set.name) / "bench"
    work.mkdir(parents=True, exist_ok=True)

    terminal.step(f"metadata of a step, DP {' and '.join(map(str, RANKS))}: ranks over gloo on this machine")
    ranks = [str(size) for size in RANKS]
    overlay = ["--overlay", str(both.patched), "--ranks", *ranks]
    trees_on_path = made.environment(both.pristine, runtime.standin_dir())
    sync = _script(made.python, trees_on_path, work, "metadata_sync", overlay)
    terminal.step("time per output token, DP 2: two engines of each tree in turn")
    folders = [f"--pristine={both.pristine}", f"--patched={both.patched}", f"--vllm={made.vllm}", f"--work={work}"]
    tokens = _script(made.python, made.env, work, "output_tokens", folders)
    terminal.step("six wheels: patchset, and wheel unpack, patch, wheel pack, in turn")
    wheels = _script(Path(sys.executable), os.environ, work, "wheels", ["--set", patch_set.name, "--work", str(work)])
    report = BenchReport(
        patch_set.name,
        (
            Table("pristine", "patched", (*_sync_rows(sync), *_token_rows(tokens))),
            Table("by-hand", "patchset", _wheel_rows(wheels)),
        ),
    )
    (paths.build_dir(patch_set.name) / "bench.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def show(report: BenchReport, terminal: Terminal) -> None:
    """Prints the tables."""
    for table in report.tables:
        rows = [
            (
                row.name,
                f"{row.baseline:.4g}",
                f"{row.ours:.4g}",
                "-" if row.ratio is None else f"{row.ratio:.2f}",
                "-" if row.spread is None else f"{row.spread[0]:.2f}-{row.spread[1]:.2f}",
            )
            for row in table.rows
        ]
        columns = ("measured", table.baseline, table.ours, "ratio", "quartiles")
        title = f"{table.ours} against {table.baseline}, {report.set_name}"
        terminal.table(title, columns, rows, right=" ".join(columns[1:]))


def _sync_rows(found: Mapping[str, Any]) -> list[Measure]:
    rows = []
    for size, one in found.items():
        for clock, what in (("host", "CPU time"), ("wall", "elapsed")):
            rows.append(_times(f"metadata of a step, DP {size}, {what} (us)", one[clock]))
        rows.append(_count(f"device reads for it, DP {size}", one["reads"]))
        rows.append(_count(f"tensors made for it, DP {size}", one["tensors"]))
    return rows


def _token_rows(found: Mapping[str, Any]) -> list[Measure]:
    return [_times(f"time per output token, {mode} (ms)", one) for mode, one in found.items()]


def _wheel_rows(found: Mapping[str, Any]) -> tuple[Measure, ...]:
    names = {
        "elapsed": "six wheels, downloads cached, elapsed (s)",
        "processor": "six wheels, processor time (s)",
        "memory": "six wheels, peak memory of a process (MB)",
    }
    rows = []
    for key, name in names.items():
        one = found[key]
        low, high = one["quartiles"]
        rows.append(Measure(name, one["baseline"], one["ours"], one["ratio"], (low, high)))
    return tuple(rows)


def _times(name: str, one: Mapping[str, Any]) -> Measure:
    first, third = one["quartiles"]
    return Measure(name, one["pristine"], one["patched"], one["ratio"], (first, third))


def _count(name: str, values: Mapping[str, float]) -> Measure:
    pristine, patched = values["pristine"], values["patched"]
    return Measure(name, pristine, patched, patched / pristine if pristine else None)


def _script(
    python: Path, environ: Mapping[str, str], work: Path, name: str, arguments: Sequence[str]
) -> dict[str, Any]:
    """Runs tests/benchmarks/<name>.py; the JSON document that it wrote."""
    script = paths.repo_root() / "tests" / "benchmarks" / f"{name}.py"
    out, log = work / f"{name}.json", work / f"{name}.log"
    out.unlink(missing_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(python), str(script), *arguments, "--out", str(out)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=work,
            env=dict(environ),
            start_new_session=True,
        )
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Findings(f"{name} took more than {LIMIT_S:.0f} s", hint=f"read {log}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code or not out.is_file():
        raise Findings(f"{name} ended with {code}", hint=f"read {log}")
    document: dict[str, Any] = json.loads(out.read_text())
    return document
