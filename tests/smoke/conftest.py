# SPDX-License-Identifier: Apache-2.0
"""Where the trees and folders of a smoke run are, and the engine lives that its tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import checkpoints
import engine
import pytest
import reference
from checkpoints import Model
from engine import Report
from job import Life, Tree
from nursery import Launcher, Nursery, Spawner

STANDIN = Path(__file__).resolve().parent.parent / "standin"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("smoke")
    group.addoption("--pristine", type=Path, help="verified, unpatched vllm-ascend")
    group.addoption("--patched", type=Path, help="vllm-ascend with the set applied")
    group.addoption("--vllm", type=Path, help="folder that holds the vllm package")
    group.addoption("--work", type=Path, help="folder for checkpoints and engine lives")
    group.addoption("--device", choices=("cpu", "npu"), default="cpu")


@dataclass(frozen=True)
class Bench:
    """What a life runs on.

    Attributes:
        trees: folders that hold the vllm_ascend package.
        vllm: folder that holds the vllm package.
        work: folder for checkpoints and engine lives.
        standin: import path of the NPU's stand-in, or None on a real NPU.
    """

    trees: dict[Tree, Path]
    vllm: Path
    work: Path
    standin: Path | None

    def traces(self, tree: Tree) -> Path:
        return self.work / f"traces-{tree.value}"

    def environment(self, tree: Tree) -> dict[str, str]:
        entries = [self.standin, self.trees[tree], self.vllm]
        path = os.pathsep.join(str(entry) for entry in entries if entry is not None)
        return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "STANDIN_TRACE": str(self.traces(tree))}


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Bench:
    def folder(option: str) -> Path:
        path: Path | None = request.config.getoption(option)
        if path is None or not path.is_dir():
            raise pytest.UsageError(f"--{option}: {path or 'not given'}; run these tests with `make smoke`")
        return path.resolve()

    trees = {tree: folder(tree.value) for tree in Tree}
    standin = STANDIN if request.config.getoption("device") == "cpu" else None
    return Bench(trees, folder("vllm"), folder("work"), standin)


@pytest.fixture(scope="session")
def launcher(bench: Bench) -> Iterator[Callable[[Tree], Launcher]]:
    """Starts ranks on a tree: forked from one process with the stand-in, each by itself on NPUs."""
    nurseries: dict[Tree, Nursery] = {}

    def launcher(tree: Tree) -> Launcher:
        if bench.standin is None:
            return Spawner(engine.RANK, bench.environment(tree))
        if tree not in nurseries:
            shutil.rmtree(bench.traces(tree), ignore_errors=True)
            architectures = [model.architecture for model in Model]
            log = bench.work / f"nursery-{tree.value}.log"
            nurseries[tree] = Nursery(architectures, bench.environment(tree), log)
        return nurseries[tree]

    yield launcher
    for nursery in nurseries.values():
        nursery.close()


@pytest.fixture(scope="session")
def checkpoint(bench: Bench) -> Callable[[Model], Path]:
    return lambda model: checkpoints.make(model, bench.work)


@pytest.fixture(scope="session")
def expected(checkpoint: Callable[[Model], Path]) -> Callable[[Model], dict[int, list[int]]]:
    """Hugging Face's greedy tokens by prompt index."""
    return lambda model: reference.expected_tokens(checkpoint(model))


@pytest.fixture(scope="session")
def live(
    bench: Bench, checkpoint: Callable[[Model], Path], launcher: Callable[[Tree], Launcher]
) -> Callable[[Life], Report]:
    """Runs a life the first time that a test asks for it; later tests get the same report."""
    reports: dict[Life, Report] = {}

    def live(life: Life) -> Report:
        if life not in reports:
            folder = bench.work / f"life{len(reports)}"
            ranks, traces = launcher(life.tree), bench.traces(life.tree)
            reports[life] = report = engine.run(life, checkpoint(life.model), folder, ranks, traces)
            (folder / "report.txt").write_text(f"{report}\n")
        return reports[life]

    return live


@pytest.fixture(autouse=True)
def mode(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Hands the life that a test is parametrised with to the report's column `mode`."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "life" in callspec.params:
        record_property("mode", str(callspec.params["life"]))
    elif request.module.__name__ == "test_driver":
        record_property("mode", "the tests' driver, no engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("device") == "npu":
        traced = pytest.mark.skip(reason="an NPU writes no trace")
        for item in items:
            if "standin" in item.keywords:
                item.add_marker(traced)
