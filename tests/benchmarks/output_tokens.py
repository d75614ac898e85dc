# SPDX-License-Identifier: Apache-2.0
"""Time per output token, DP=2, both ranks busy: engines of the two trees in turn.

On two CPU cores the model's own arithmetic is nearly all of a step, so this shows that the patches
cost nothing, not what they gain on an NPU. Every life starts a new engine; lives of the two trees
alternate, and each pair of decode steps in the same place of their rounds gives one ratio.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "smoke"))

import checkpoints  # noqa: E402
import engine  # noqa: E402
from checkpoints import Model  # noqa: E402
from job import Life, Mode, Round, Tree  # noqa: E402
from nursery import Launcher, Nursery  # noqa: E402
from reference import PROMPTS  # noqa: E402

EVERYTHING = tuple(range(len(PROMPTS)))
# Equal loads: on the pristine tree an idle rank would hang the eager engine.
ROUNDS = tuple(Round(f"all on both, {turn}", (EVERYTHING, EVERYTHING)) for turn in range(12))
MODES = (Mode.EAGER, Mode.ACL_GRAPH)


def launchers(given: argparse.Namespace) -> dict[Tree, Nursery]:
    """One import of vLLM for each tree, from which its ranks are forked."""
    standin = REPOSITORY / "tests" / "standin"
    found = {}
    for tree in Tree:
        path = os.pathsep.join(map(str, (standin, getattr(given, tree.value), given.vllm)))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        found[tree] = Nursery([Model.QWEN3_MOE.architecture], environment, given.work / f"nursery-{tree.value}.log")
    return found


def decode_times(life: Life, launcher: Launcher, work: Path) -> list[float]:
    """Seconds of each decode step of rank 0, without the first rounds, which warm up."""
    report = engine.run(life, checkpoints.make(life.model, work), work / "life", launcher)
    if report.outcome is not engine.Outcome.DONE:
        raise SystemExit(str(report))
    times: list[float] = []
    last = 0.0
    for line in report.ranks[0].lines:
        if "step" in line:
            if line["step"] > 2:  # the first is the prefill
                times.append(line["at"] - last)
            last = line["at"]
    return times[len(times) // 4 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pristine", "patched", "vllm", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    nurseries = launchers(given)
    found = {}
    for mode in MODES:
        times: dict[Tree, list[float]] = {tree: [] for tree in Tree}
        for tree in (Tree.PRISTINE, Tree.PATCHED, Tree.PATCHED, Tree.PRISTINE):
            times[tree] += decode_times(Life(tree, mode=mode, rounds=ROUNDS), nurseries[tree], given.work)
        pairs = zip(times[Tree.PATCHED], times[Tree.PRISTINE], strict=True)
        quarters = statistics.quantiles((patched / pristine for patched, pristine in pairs), n=4)
        found[mode.value] = {
            **{tree.value: 1e3 * statistics.median(times[tree]) for tree in Tree},
            "ratio": quarters[1],
            "quartiles": [quarters[0], quarters[2]],
        }
    for nursery in nurseries.values():
        nursery.close()
    given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
