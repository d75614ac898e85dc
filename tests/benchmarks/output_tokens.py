# SPDX-License-Identifier: Apache-2.0
"""Whole engines of the two trees, DP=2: time per output token, start, memory, and rows beside a prefill.

``python output_tokens.py --pristine DIR --patched DIR --vllm DIR --work DIR --least 30 --out FILE``. The engines of
both trees are up at the same time and take turns; each turn of both gives a pair. On CPUs the model's own arithmetic is
nearly all of a step, so that the ratio says what the patches cost, and nothing of what they gain on an NPU. CPU time is
that of a rank's process, which what else the machine does blurs less than elapsed time.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from host_time import UNTRACED

from selftest.bench.pairs import Pair, Row, compared, counted, drawn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "smoke"))

import checkpoints  # noqa: E402
import engine  # noqa: E402
from checkpoints import Model  # noqa: E402
from fork_server import ForkServer  # noqa: E402
from job import LATE_ROUND, EngineRun, Mode, Round, Tree  # noqa: E402
from reference import PROMPTS  # noqa: E402

# Equal loads: on the pristine tree an idle rank would hang an eager engine with experts.
TURN = Round("turn", (tuple(range(len(PROMPTS))),) * 2)
NEW_TOKENS, WARM_TURNS, POLL = 33, 2, 0.01
WHY = "As it starts, a rank holds its files' digests and its settings against the other ranks', and keeps 256 steps."
RESOLUTION = 0.06  # three of a hundred to either side
RUNS = (
    (Model.QWEN3, Mode.ACL_GRAPH, False),
    (Model.QWEN3_MOE, Mode.ACL_GRAPH, False),
    (Model.QWEN3, Mode.EAGER, False),
    (Model.QWEN3_MOE, Mode.EAGER, False),
    (Model.QWEN3_MOE, Mode.EAGER, True),
    (Model.QWEN3_MOE, Mode.ACL_GRAPH, True),
)
ALSO_UNTRACED = (Model.QWEN3_MOE, Mode.ACL_GRAPH, False)
DECODING, PREFILLING = "DecodeOnly", "PrefillNoCache"
TOKENS, START = "Time per output token, on whole engines", "Start and memory of an engine"


@dataclass(frozen=True)
class TurnRun(EngineRun):
    """Serves one round whenever it is told to; with ``steps_kept`` its ranks remember their steps."""

    steps_kept: bool = True

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | ({} if self.steps_kept else {"VLLM_ASCEND_DP_TRACE_STEPS": "off"})

    @property
    def script(self) -> str:
        return "engine_turns"


class Engine:
    """The ranks of one tree's engine, which is up."""

    def __init__(self, ranks: Sequence[engine.Rank], stack: contextlib.ExitStack) -> None:
        self.ranks = ranks
        self.ready = [self._line(rank, "ready") for rank in ranks]
        self._pipes = [stack.enter_context((rank.folder / "go").open("w", buffering=1)) for rank in ranks]
        self._turns = 0

    def turn(self) -> dict[str, float]:
        """Mean seconds of a decode step over the ranks, by clock."""
        for pipe in self._pipes:
            pipe.write("\n")
        lines = [self._line(rank, "turn", self._turns) for rank in self.ranks]
        self._turns += 1
        return {clock: statistics.mean(line[clock] for line in lines) for clock in ("cpu", "wall")}

    def end(self) -> list[float]:
        """Ends the ranks; MiB that each needed at most."""
        for pipe in self._pipes:
            pipe.close()
        return [self._line(rank, "done")["peak_rss_kib"] / 1024 for rank in self.ranks]

    def _line(self, rank: engine.Rank, key: str, value: object = None) -> dict[str, Any]:
        """Waits for the line with this key, and value."""
        while True:
            ended = rank.poll()
            for line in reversed(rank.lines()):
                if key in line and value in (None, line[key]):
                    return line
            if ended is not None:
                raise SystemExit(f"a rank ended with {ended}:\n{rank.log()[-3000:]}")
            time.sleep(POLL)


class Bench:
    """One import of vLLM for each tree, from which its ranks are forked."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.work: Path = given.work
        self.least: int = given.least
        self.fork_servers = {}
        for tree in Tree:
            folders = (given.standin, getattr(given, tree.value), given.vllm)
            path = os.pathsep.join(map(str, (*folders, REPOSITORY / "tests/benchmarks")))
            environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            models = sorted({model.architecture for model, _, _ in RUNS})
            self.fork_servers[tree] = ForkServer(models, environment, self.work / f"fork-server-{tree.value}.log")

    def close(self) -> None:
        for fork_server in self.fork_servers.values():
            fork_server.close()

    def checkpoint(self, model: Model) -> Path:
        return checkpoints.make(model, self.work)

    @contextlib.contextmanager
    def up(self, run: TurnRun) -> Iterator[Engine]:
        placements = [engine.Placement(self.fork_servers[run.tree])] * run.dp_size
        folder = self.work / f"run-{run.tree.value}{'' if run.steps_kept else '-untraced'}"
        with (
            engine.started_ranks(run, self.checkpoint(run.model), folder, placements) as ranks,
            contextlib.ExitStack() as stack,
        ):
            yield Engine(ranks, stack)


def of_mode(bench: Bench, model: Model, mode: Mode, parallel: bool) -> tuple[list[Row], dict[str, list[Pair]]]:
    """Time per output token, and a pair of each rank of start and memory.

    In one mode a third engine takes its turns, which remembers no steps.
    """
    run = partial(TurnRun, model=model, mode=mode, expert_parallel=parallel, new_tokens=NEW_TOKENS, rounds=(TURN,))
    name = f"{model.value}, {mode.value}{', expert parallel' * parallel}, CPU time (ms)"
    runs = [run(Tree.PRISTINE), run(Tree.PATCHED)]
    if (model, mode, parallel) == ALSO_UNTRACED:
        runs.append(run(Tree.PATCHED, steps_kept=False))
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(bench.up(one)) for one in runs]
        taken: list[list[float]] = []

        def pair() -> Pair:
            taken.append([1e3 * one.turn()["cpu"] for one in engines])
            return taken[-1][0], taken[-1][1]

        def found(pairs: Sequence[Pair], what: str = name) -> Row:
            return compared(TOKENS, what, "pristine", pairs, 1.0, resolution=RESOLUTION)

        for _ in range(WARM_TURNS):
            pair()
        taken.clear()
        rows = [drawn(pair, found, bench.least, 4 * bench.least)]
        if len(engines) > len(Tree):
            rows += [
                found([(one[0], one[2]) for one in taken], name.replace(", CPU", f", {UNTRACED}, CPU")),
                compared(TOKENS, name, UNTRACED, [(one[2], one[1]) for one in taken]),
            ]
        both = engines[: len(Tree)]
        once = {
            "CPU time of a rank's start (s)": [[line["cpu"] for line in one.ready] for one in both],
            "peak memory of a rank (MiB)": [one.end() for one in both],
        }
    return rows, {what: list(zip(*sides, strict=True)) for what, sides in once.items()}


def rows_beside_a_prefill(bench: Bench, tree: Tree) -> int:
    """Rows that rank 0, which decodes one request, computes while rank 1 prefills."""
    run = EngineRun(tree, mode=Mode.ACL_GRAPH, rounds=(LATE_ROUND,))
    report = engine.run(run, bench.checkpoint(run.model), bench.work / "run", bench.fork_servers[tree])
    if report.outcome is not engine.Outcome.DONE:
        raise SystemExit(str(report))
    together = zip(*(rank.forwards(LATE_ROUND.name) for rank in report.ranks), strict=False)
    (rows,) = (
        decoding["rows"]
        for decoding, prefilling in together
        if decoding["attention"] == DECODING and prefilling["attention"] == PREFILLING
    )
    return int(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pristine", "patched", "vllm", "standin", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--set", default="")
    parser.add_argument("--least", type=int, required=True)
    parser.add_argument("--runs", type=int, default=len(RUNS))
    given = parser.parse_args()
    own = REPOSITORY / "tests" / "smoke" / given.set
    if (own / "fused_experts.py").is_file():  # the set's transformers makes checkpoints otherwise
        sys.path.append(str(own))
        importlib.import_module("fused_experts").install()
    bench = Bench(given)
    rows, once = [], []
    for run in RUNS[: given.runs]:
        found, pairs = of_mode(bench, *run)
        rows += found
        once.append(pairs)
    for what in once[0]:
        rows.append(compared(START, what, "pristine", [pair for pairs in once for pair in pairs[what]], 1.0, WHY))
    beside = [rows_beside_a_prefill(bench, tree) for tree in (Tree.PRISTINE, Tree.PATCHED)]
    rows.append(counted(START, "rows of a decode of 1 beside a prefill of 150", "pristine", *beside, 1.0))
    bench.close()
    given.out.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
