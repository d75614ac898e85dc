# SPDX-License-Identifier: Apache-2.0
"""Runs deployments on both trees: `python -m survey.run --pristine DIR --patched DIR --vllm DIR --work DIR ...`.

The deployments come as a JSON list on standard input; each row of the result goes out as one JSON line.
"""

import argparse
import contextlib
import gzip
import hashlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import engine
from fork_server import ForkServer

from survey import net, online, reading, reduce, space
from survey.deployment import Deployment
from survey.judge import Answer, Verdict, dearer, judge
from survey.seen import Seen

SMOKE = Path(__file__).resolve().parent.parent / "smoke"
TREES = ("pristine", "patched")
_AGAIN = 2


class Ground:
    """The trees that deployments run on, and what upstream's did before."""

    def __init__(self, arguments: argparse.Namespace, deployments: Sequence[space.Settings]) -> None:
        self._given = arguments
        of_each = (Deployment("", settings).architectures for settings in deployments)
        self._architectures = sorted({name for names in of_each for name in names})
        self._fork_servers: dict[str, ForkServer] = {}
        self._answers: dict[tuple[str, str], Answer] = {}

    def close(self) -> None:
        for fork_server in self._fork_servers.values():
            with contextlib.suppress(BrokenPipeError):  # one that was killed
                fork_server.close()

    def answer(self, tree: str, settings: space.Settings) -> Answer:
        """What ``tree`` did on a deployment; of the pristine one it may be kept."""
        key = tree, space.line(settings)
        if key not in self._answers:
            file = self._given.kept / f"{_file_name(key[1])}.json.gz"
            if tree == "pristine" and file.is_file():
                with gzip.open(file, "rt", encoding="utf-8") as stream:
                    found = json.load(stream)
                self._answers[key] = Answer(**found | {"wrong": tuple(found["wrong"])})
            else:
                self._answers[key] = found = self._run(Deployment(tree, settings))
                if tree == "pristine":
                    file.parent.mkdir(parents=True, exist_ok=True)
                    partial = file.with_suffix(".partial")
                    with gzip.open(partial, "wt", encoding="utf-8") as stream:
                        json.dump(asdict(found), stream)
                    partial.replace(file)
        return self._answers[key]

    def verdict(self, settings: space.Settings) -> Verdict:
        """Where patched takes far more, both are run again, and the least of each counts."""
        for _ in range(_AGAIN):
            both = {tree: self.answer(tree, settings) for tree in TREES}
            if not all(one.clean for one in both.values()) or not dearer(**both):
                break
            for tree, one in both.items():
                self._answers[tree, space.line(settings)] = one.least(self._run(Deployment(tree, settings)))
        return judge(*(self.answer(tree, settings) for tree in TREES))

    def says(self, settings: space.Settings) -> dict[str, str]:
        """What each tree did, for a reader."""
        both = {tree: self.answer(tree, settings) for tree in TREES}
        more = [found] if all(one.clean for one in both.values()) and (found := dearer(**both)) else []
        return {"pristine": str(both["pristine"]), "patched": ", ".join([str(both["patched"]), *more])}

    def _run(self, deployment: Deployment) -> Answer:
        checkpoint = net.make(deployment.checkpoint, self._given.checkpoints)
        work, traces = self._given.work / deployment.tree, self._traces(deployment.tree)
        shutil.rmtree(traces, ignore_errors=True)
        seen = self._served(deployment, checkpoint, work)
        logs = [file.read_text(errors="replace") for file in sorted(work.glob("*/log"))]
        if seen.outcome is not engine.Outcome.DONE:
            folder = self._given.work / "failed"
            folder.mkdir(exist_ok=True)
            log = folder / f"{_file_name(str(deployment))}.log"
            log.write_text("\n".join([str(deployment), seen.why, *logs]))
        expected = json.loads((checkpoint / "expected.json").read_text())
        return seen.answer(deployment.asked, expected, reading.first_error(logs), traces)

    def _served(self, deployment: Deployment, checkpoint: Path, work: Path) -> Seen:
        fork_server = self._fork_server(deployment.tree)
        if deployment.online:
            return online.run(deployment, checkpoint, work, fork_server)
        return Seen.of(engine.run(deployment, checkpoint, work, fork_server))

    def _traces(self, tree: str) -> Path:
        folder: Path = self._given.work / f"traces-{tree}"
        return folder

    def _fork_server(self, tree: str) -> ForkServer:
        if tree not in self._fork_servers:
            entries = (self._given.standin, getattr(self._given, tree), self._given.vllm, SMOKE, SMOKE.parent)
            environment = os.environ | {
                # vLLM reads it as it is imported. A line of the log is taken for life, and an engine that hangs as it
                # starts says every minute that it waits.
                "VLLM_RINGBUFFER_WARNING_INTERVAL": "86400",
                "PYTHONPATH": os.pathsep.join(map(str, entries)),
                "STANDIN_TRACE": str(self._traces(tree)),
                "TORCHAIR_CACHE_HOME": str(self._given.work / "torchair"),
                "OMP_NUM_THREADS": "1",
            }
            log = self._given.work / f"fork-server-{tree}.log"
            self._fork_servers[tree] = ForkServer(self._architectures, environment, log)
        return self._fork_servers[tree]


def _file_name(text: str) -> str:
    """Of the same length for any text: a deployment's line may be longer than a file's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _paths() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pristine", "patched", "vllm", "standin", "work", "kept", "checkpoints"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--reduce", action="store_true")
    return parser.parse_args()


def _checkpoints(given: argparse.Namespace) -> Path:
    """Where they are; by themselves, and made as the set's own smoke tests make them, where its transformers is
    another."""
    folder: Path = given.checkpoints
    if (SMOKE / given.set / "fused_experts.py").is_file():
        sys.path.append(str(SMOKE / given.set))
        importlib.import_module("fused_experts").install()
        folder /= given.set
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    given = _paths()
    given.checkpoints = _checkpoints(given)
    given.work.mkdir(parents=True, exist_ok=True)
    deployments = json.load(sys.stdin)
    ground = Ground(given, deployments)
    # The rows go out by a descriptor of their own: what is imported prints to the other.
    rows = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        for settings in deployments:
            verdict = ground.verdict(settings)
            row = {"line": space.line(settings), "verdict": verdict.value}
            row |= {tree: asdict(ground.answer(tree, settings)) for tree in TREES}
            row["says"] = ground.says(settings)
            if verdict is Verdict.WORSE and given.reduce:
                fewest = reduce.reduce(
                    space.of_set(given.set), settings, lambda tried: ground.verdict(tried) is Verdict.WORSE
                )
                row["fewest"] = space.line(fewest)
            print(json.dumps(row), file=rows, flush=True)
    finally:
        ground.close()


if __name__ == "__main__":
    main()
