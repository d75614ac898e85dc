# SPDX-License-Identifier: Apache-2.0
"""Whole engines of the two trees, DP=2: time per output token, memory, and what a decode computes beside a prefill.

On two CPU cores the model's own arithmetic is nearly all of a step, so time per output token shows that
the patches cost nothing, not what they gain on an NPU. Every life starts a new engine; lives of the
trees alternate, and each pair of decode steps in the same place of their rounds gives one ratio. "wall"
is elapsed time, "cpu" the CPU time of the rank, which what else the machine does blurs less.

"untraced" is the patched tree with the ring of last steps and the watchdog off.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "smoke"))

import checkpoints  # noqa: E402
import engine  # noqa: E402
from checkpoints import Model  # noqa: E402
from job import LATE_ROUND, Life, Mode, Round, Tree  # noqa: E402
from nursery import Nursery  # noqa: E402
from reference import PROMPTS  # noqa: E402

EVERYTHING = tuple(range(len(PROMPTS)))
# Equal loads: on the pristine tree an idle rank would hang the eager engine.
ROUNDS = tuple(Round(f"all on both, {turn}", (EVERYTHING, EVERYTHING)) for turn in range(8))
MODES = tuple((mode, parallel) for mode in (Mode.EAGER, Mode.ACL_GRAPH) for parallel in (False, True))
TRACED_MODE = (Mode.ACL_GRAPH, False)
UNTRACED = {"VLLM_ASCEND_DP_TRACE_STEPS": "off", "VLLM_ASCEND_DP_TIMEOUT": "off"}
PRISTINE, PATCHED, UNTRACED_SIDE = "pristine", "patched", "untraced"
TREE_OF = {PRISTINE: Tree.PRISTINE, PATCHED: Tree.PATCHED, UNTRACED_SIDE: Tree.PATCHED}
CLOCKS = {"wall": "at", "cpu": "cpu"}
DECODING, PREFILLING = "DecodeOnly", "PrefillNoCache"

Times = dict[str, list[float]]
"""Seconds of each decode step, by clock."""


class Bench:
    """One import of vLLM for each side, from which its ranks are forked."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.work: Path = given.work
        standin = REPOSITORY / "tests" / "standin"
        self.nurseries = {}
        for side, tree in TREE_OF.items():
            path = os.pathsep.join(map(str, (standin, getattr(given, tree.value), given.vllm)))
            environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            environment |= UNTRACED if side == UNTRACED_SIDE else {}
            log = self.work / f"nursery-{side}.log"
            self.nurseries[side] = Nursery([Model.QWEN3_MOE.architecture], environment, log)

    def live(self, side: str, life: Life) -> engine.Report:
        """One life of a side's engine; ends the benchmark where it does not serve all rounds."""
        report = engine.run(life, checkpoints.make(life.model, self.work), self.work / "life", self.nurseries[side])
        if report.outcome is not engine.Outcome.DONE:
            raise SystemExit(str(report))
        return report

    def close(self) -> None:
        for nursery in self.nurseries.values():
            nursery.close()


def decode_times(report: engine.Report) -> Times:
    """Decode steps of rank 0, without the first rounds, which warm up."""
    times: Times = {clock: [] for clock in CLOCKS}
    last: dict[str, float] = {}
    for line in report.ranks[0].lines:
        if "step" in line:
            if line["step"] > 2:  # the first is the prefill
                for clock, name in CLOCKS.items():
                    times[clock].append(line[name] - last[name])
            last = dict(line)
    return {clock: found[len(found) // 4 :] for clock, found in times.items()}


def peak_rss_mib(report: engine.Report) -> float:
    """Of the rank that needed most."""
    return max(line["peak_rss_kib"] / 1024 for rank in report.ranks for line in rank.lines if "peak_rss_kib" in line)


def compare(bench: Bench, mode: Mode, parallel: bool, order: Sequence[str]) -> dict[str, Any]:
    """Lives of the sides in this order; medians of each, and ratios of paired steps to the first side's."""
    sides, baseline = dict.fromkeys(order), order[0]
    times: dict[str, Times] = {side: {clock: [] for clock in CLOCKS} for side in sides}
    memory: dict[str, float] = {}
    for side in order:
        life = Life(TREE_OF[side], mode=mode, expert_parallel=parallel, rounds=ROUNDS)
        report = bench.live(side, life)
        for clock, found in decode_times(report).items():
            times[side][clock] += found
        memory[side] = max(memory.get(side, 0.0), peak_rss_mib(report))
    result: dict[str, Any] = {"peak_rss_mib": memory}
    for clock in CLOCKS:
        result[clock] = {side: 1e3 * statistics.median(times[side][clock]) for side in sides}
        result[f"{clock} ratios"] = {
            side: statistics.quantiles(
                (ours / theirs for ours, theirs in zip(times[side][clock], times[baseline][clock], strict=True)), n=4
            )
            for side in sides
            if side != baseline
        }
    return result


def rows_beside_a_prefill(bench: Bench, side: str) -> int:
    """Rows that rank 0, which decodes one request, computes while rank 1 prefills."""
    report = bench.live(side, Life(TREE_OF[side], mode=Mode.ACL_GRAPH, rounds=(LATE_ROUND,)))
    together = zip(*(rank.forwards(LATE_ROUND.name) for rank in report.ranks), strict=False)
    (rows,) = (
        decoding["rows"]
        for decoding, prefilling in together
        if decoding["attention"] == DECODING and prefilling["attention"] == PREFILLING
    )
    return int(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pristine", "patched", "vllm", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    bench = Bench(given)
    modes = {}
    for mode, parallel in MODES:
        name = f"{mode.value}, {'expert parallel' if parallel else 'no expert parallel'}"
        modes[name] = compare(bench, mode, parallel, (PRISTINE, PATCHED, PATCHED, PRISTINE))
    tracing = compare(bench, *TRACED_MODE, (UNTRACED_SIDE, PATCHED, PATCHED, UNTRACED_SIDE))
    rows = {side: rows_beside_a_prefill(bench, side) for side in (PRISTINE, PATCHED)}
    bench.close()
    document = {"modes": modes, "tracing": tracing, "rows beside a prefill": rows}
    given.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
