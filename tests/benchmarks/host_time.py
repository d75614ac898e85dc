# SPDX-License-Identifier: Apache-2.0
"""What a step costs the host beside its model, the two trees in turn: see host_worker.py for what that is.

``python host_time.py --pristine DIR --patched DIR --path DIRS --least 30 --out FILE`` with the runtime's Python; a
tree and ``--path`` make up a worker's PYTHONPATH. ``--instructions`` counts them too, where callgrind is here.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from callgrind import COMMAND

from selftest.bench.pairs import Pair, Row, compared, counted, drawn

WORKER = Path(__file__).with_name("host_worker.py")
HOST, UNPACK = "Host time of a step beside the model", "Growth of unpacking by ranks"
UNTRACED = "tracing off"
# "mode, model, ranks, MoE layers" and how many steps a block has.
CASES = {
    "graph, moe, 2, 0": 400,
    "graph, dense, 2, 0": 400,
    "eager, moe, 2, 0": 400,
    "eager, dense, 2, 0": 400,
    "eager, moe, 2, 48": 60,
    "eager, moe, 2, 94": 40,
    "graph, moe, 32, 0": 400,
    "graph, moe, 1024, 0": 100,
    f"graph, moe, 2, 0, {UNTRACED}": 400,
    f"eager, moe, 2, 0, {UNTRACED}": 400,
}
COUNTED_STEPS = 40
WHY = {
    "graph": "A step chooses its MoE communication from what the ranks told, and the recorder writes.",
    "eager": "Upstream decides nothing in an eager step: vLLM alone reduces the counts, so that ranks of a model with "
    "experts hang (D1). A layer's forward also takes off what its communication put on (D12).",
}
ALLOWED_US, SIZES = 100.0, (256, 1024)


class Worker:
    """A process of one tree."""

    def __init__(self, tree: Path, path: str, *command: str) -> None:
        here = Path(__file__).parent
        smoke = here.parent / "smoke"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tree, path, here, smoke)))}
        environment |= {"OMP_NUM_THREADS": "1", "VLLM_CONFIGURE_LOGGING": "0"}  # its log would mix with the answers
        self._process = subprocess.Popen(
            [*command[:-1], sys.executable, str(WORKER), *command[-1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, case: str, repeats: int) -> None:
        assert self._process.stdin is not None
        print(json.dumps({"case": case, "repeats": repeats}), file=self._process.stdin, flush=True)

    def answer(self) -> float:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit("a worker has ended")
        return float(json.loads(line))

    def us(self, case: str, repeats: int) -> float:
        """Microseconds of a step."""
        self.ask(case, repeats)
        return 1e6 * self.answer() / repeats

    def end(self) -> None:
        self._process.kill()
        with self._process:
            pass


def named(case: str, what: str) -> str:
    mode, model, ranks, layers, *untraced = case.split(", ")
    parts = [mode, model, f"DP {ranks}", *([f"{layers} MoE layers"] if layers != "0" else []), *untraced, what]
    return ", ".join(parts)


def why(case: str) -> str:
    return WHY[case.partition(",")[0]]


def traced(case: str) -> str:
    """The case with tracing that one without it is compared with; "" for one that has it."""
    rest, _, last = case.rpartition(", ")
    return rest if last == UNTRACED else ""


def times(pristine: Worker, patched: Worker, least: int) -> list[Row]:
    """Every case by CPU time, and unpack by ranks."""

    def of_case(case: str, repeats: int) -> Row:
        def pair() -> Pair:
            return pristine.us(case, repeats), patched.us(case, repeats)

        pair()  # warms up
        name = named(case, "CPU time (us)")
        return drawn(pair, lambda pairs: compared(HOST, name, "pristine", pairs, 1.0, why(case)), least)

    def of_tracing(case: str, repeats: int) -> Row:
        def pair() -> Pair:
            return patched.us(case, repeats), patched.us(traced(case), repeats)

        name = named(traced(case), "CPU time (us)")
        return drawn(pair, lambda pairs: compared(HOST, name, UNTRACED, pairs), least)

    few, many = SIZES
    scale, name = many / few, f"unpack of {many} ranks (us)"
    pairs = [(scale * patched.us(f"unpack {few}", 400), patched.us(f"unpack {many}", 400)) for _ in range(least)]
    return [
        *(of_case(*case) for case in CASES.items()),
        *(of_tracing(*case) for case in CASES.items() if traced(case[0])),
        compared(UNPACK, name, f"{scale:g} times that of {few}", pairs, 1.0),
        compared(UNPACK, name, "what it may take", [(ALLOWED_US, ours) for _, ours in pairs], 1.0),
    ]


def instructions(given: argparse.Namespace) -> list[Row]:
    """The same cases by instructions, which repeat."""
    with tempfile.TemporaryDirectory() as folder:
        workers = []
        for tree in (given.pristine, given.patched):
            out = str(Path(folder) / tree.name)
            workers.append(Worker(tree, given.path, *(word.format(out) for word in COMMAND), out))
        rows, ours = [], {}
        for case in CASES:
            found = []
            for repeats in (3, COUNTED_STEPS):  # the first warm up
                for worker in workers:
                    worker.ask(case, repeats)
                found = [worker.answer() / repeats for worker in workers]
            rows.append(counted(HOST, named(case, "instructions"), "pristine", *found, 1.0, why(case)))
            ours[case] = found[1]
        rows += [
            counted(HOST, named(traced(case), "instructions"), UNTRACED, count, ours[traced(case)])
            for case, count in ours.items()
            if traced(case)
        ]
        for worker in workers:
            worker.end()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pristine", "patched", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--least", type=int, required=True)
    parser.add_argument("--instructions", action="store_true")
    given = parser.parse_args()
    workers = [Worker(tree, given.path) for tree in (given.pristine, given.patched)]
    rows = times(*workers, given.least)
    for worker in workers:
        worker.end()
    notes = []
    if given.instructions and shutil.which(COMMAND[0]):
        rows += instructions(given)
    else:
        notes.append("Instructions were not counted: no valgrind, or FAST=1.")
    given.out.write_text(json.dumps({"rows": [asdict(row) for row in rows], "notes": notes}, indent=1))


if __name__ == "__main__":
    main()
