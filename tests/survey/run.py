# SPDX-License-Identifier: Apache-2.0
"""Runs deployments on both trees: `python -m survey.run --pristine DIR --patched DIR --vllm DIR --work DIR ...`.

The deployments come as a JSON list on standard input; each row of the result goes out as one JSON line.
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import engine
from checkpoints import Model
from nursery import Nursery

from survey import asks, net, reading, reduce, space
from survey.deployment import Deployment
from survey.judge import Answer, Verdict, judge

STANDIN = Path(__file__).resolve().parent.parent / "standin"
SMOKE = STANDIN.with_name("smoke")
Asked = tuple[tuple[asks.Request, ...], ...]
_DRAFTERS = ("DeepSeekMTPModel",)


class Ground:
    """The trees that deployments run on, and what upstream's did before."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._given = arguments
        self._nurseries: dict[str, Nursery] = {}
        self._answers: dict[tuple[str, str], Answer] = {}

    def close(self) -> None:
        for nursery in self._nurseries.values():
            with contextlib.suppress(BrokenPipeError):  # one that was killed
                nursery.close()

    def answer(self, tree: str, settings: space.Settings) -> Answer:
        """What ``tree`` did on a deployment; of the pristine one it may be kept."""
        key = tree, space.line(settings)
        if key not in self._answers:
            file = self._given.kept / f"{hashlib.sha256(key[1].encode()).hexdigest()[:32]}.json.gz"
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
        return judge(self.answer("pristine", settings), self.answer("patched", settings))

    def _run(self, deployment: Deployment) -> Answer:
        checkpoint = net.make(deployment.settings["model"], self._given.checkpoints)
        work, nursery = self._given.work / deployment.tree, self._nursery(deployment.tree)
        report = engine.run(deployment, checkpoint, work, nursery, self._traces(deployment.tree))
        logs = [file.read_text(errors="replace") for file in sorted(work.glob("rank*/log"))]
        if report.outcome is not engine.Outcome.DONE:
            folder = self._given.work / "failed"
            folder.mkdir(exist_ok=True)
            (folder / f"{deployment}.log").write_text("\n".join([str(report.why), *logs]))
        expected = json.loads((checkpoint / "expected.json").read_text())
        return _answer(report, deployment.asked, expected, reading.first_error(logs))

    def _traces(self, tree: str) -> Path:
        folder: Path = self._given.work / f"traces-{tree}"
        return folder

    def _nursery(self, tree: str) -> Nursery:
        if tree not in self._nurseries:
            entries = (STANDIN, getattr(self._given, tree), self._given.vllm, SMOKE, SMOKE.parent)
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(map(str, entries)),
                "STANDIN_TRACE": str(self._traces(tree)),
                "TORCHAIR_CACHE_HOME": str(self._given.work / "torchair"),
                "OMP_NUM_THREADS": "1",
            }
            architectures = [*(model.architecture for model in Model), *_DRAFTERS]
            self._nurseries[tree] = Nursery(architectures, environment, self._given.work / f"nursery-{tree}.log")
        return self._nurseries[tree]


def _answer(report: engine.Report, asked: Asked, expected: dict[str, list[int]], error: str) -> Answer:
    """What a report says; a request that is aborted is judged as far as it came."""
    lines = [line for rank in report.ranks for line in rank.lines]
    given: dict[str, list[list[int]]] = {}
    for line in lines:
        given |= line.get("answers", {})
    done = report.outcome is engine.Outcome.DONE
    wrong = [one.id for of in asked for one in of if not reading.is_right(one, given.get(one.id), expected[one.id])]
    peaks = [line["peak_rss_kib"] for line in lines if "peak_rss_kib" in line]
    return Answer(
        report.outcome.value,
        tuple(sorted(wrong)) if done else (),
        "" if done else f"{report.why}: {error}",
        round(report.seconds, 1),
        round(max(line["ready"] for line in lines if "ready" in line), 1) if report.ready else None,
        max(peaks) if done else None,
        not done or _agree(report),
        sum(bool(line["changed"]) for line in lines if "dummy" in line),
    )


def _agree(report: engine.Report) -> bool:
    """Whether every rank joined the same collectives of the DP group while serving, as far as all ranks came."""
    own = [
        [one.agreed for step in rank.serving_steps() for one in step.collectives if one.group == "dp"]
        for rank in report.ranks
    ]
    return all(of == own[0] for of in own)


def _paths() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pristine", "patched", "vllm", "work", "kept", "checkpoints"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--reduce", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = _paths()
    given.work.mkdir(parents=True, exist_ok=True)
    given.checkpoints.mkdir(parents=True, exist_ok=True)
    ground = Ground(given)
    # The rows go out by a descriptor of their own: what is imported prints to the other.
    rows = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        for settings in json.load(sys.stdin):
            verdict = ground.verdict(settings)
            row = {"line": space.line(settings), "verdict": verdict.value}
            row |= {tree: asdict(ground.answer(tree, settings)) for tree in ("pristine", "patched")}
            row["says"] = {tree: str(ground.answer(tree, settings)) for tree in ("pristine", "patched")}
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
