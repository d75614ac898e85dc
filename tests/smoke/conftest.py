# SPDX-License-Identifier: Apache-2.0
"""Where the trees and folders of a smoke run are, and the engine runs that its tests share."""

import itertools
import json
import os
import re
import shutil
import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints
import drafters
import engine
import engine_runs
import kept
import pytest
import reference
from checkpoints import Model
from engine import Report
from fork_server import ForkServer, Launcher, Spawner
from job import SOC_310P, EngineRun, Round, Tree

# Threads that spin for each other stand still on a busy machine. Of the ranks too; before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CALL_LIMIT = 600.0
REPORTS = pytest.StashKey[dict[EngineRun, Report]]()
STANDIN = Path(__file__).resolve().parent.parent / "standin"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("smoke")
    group.addoption("--pristine", type=Path, help="verified, unpatched vllm-ascend")
    group.addoption("--patched", type=Path, help="vllm-ascend with the set applied")
    group.addoption("--vllm", type=Path, help="folder that holds the vllm package")
    group.addoption("--work", type=Path, help="folder for checkpoints and engine runs")
    group.addoption("--device", choices=("cpu", "npu"), default="cpu")
    group.addoption("--set", default="", help="the set, for what its release does not show (defects.toml)")
    group.addoption("--quick", action="store_true", help="the quick tier alone: tests marked so, of engine_runs.QUICK")
    group.addoption("--kept", type=Path, help="where reports of runs on the pristine tree are kept (kept.py)")


@dataclass(frozen=True)
class Bench:
    """What an engine runs on.

    Attributes:
        trees: folders that hold the vllm_ascend package.
        vllm: folder that holds the vllm package.
        work: folder for checkpoints and engine runs.
        standin: import path of the NPU's stand-in, or None on a real NPU.
    """

    trees: dict[Tree, Path]
    vllm: Path
    work: Path
    standin: Path | None

    def chip(self, tree: Tree) -> str:
        """The chip that an installed wheel was built for; empty for a tree, which no build has been at."""
        file = self.trees[tree] / "vllm_ascend" / "_build_info.py"
        found = re.search(r"__soc_version__ = '(\w+)'", file.read_text()) if file.is_file() else None
        return found[1] if found else ""

    def traces(self, tree: Tree) -> Path:
        return self.work / f"traces-{tree.value}"

    def edited(self, path: str, more: bytes) -> Path:
        """A copy of the patched tree with ``more`` at the end of one file."""
        copy = self.work / "edited"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.trees[Tree.PATCHED], copy, ignore=shutil.ignore_patterns(".git"))
        with (copy / path).open("ab") as stream:
            stream.write(more)
        return copy

    def environment(self, tree: Tree, folder: Path | None = None, traced: bool = True) -> dict[str, str]:
        """To run on ``tree``, or on another ``folder`` like it."""
        entries = [self.standin, folder or self.trees[tree], self.vllm]
        path = os.pathsep.join(str(entry) for entry in entries if entry is not None)
        files = {"TORCHAIR_CACHE_HOME": str(self.work / "torchair")}
        files |= {"STANDIN_TRACE": str(self.traces(tree))} if traced else {}
        return os.environ | {"PYTHONPATH": path} | files


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
def launcher(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Callable[..., Launcher]]:
    """Starts ranks on a tree: forked from one process with the stand-in, each by itself on NPUs.

    The processes of all engine runs to come import at the same time.
    """
    fork_servers: dict[tuple[Tree, bool], ForkServer] = {}

    def begin(tree: Tree, traced: bool) -> None:
        if traced:
            shutil.rmtree(bench.traces(tree), ignore_errors=True)
        architectures = [*(model.architecture for model in Model), *drafters.ARCHITECTURES]
        log = bench.work / f"fork-server-{tree.value}{'' if traced else '-untraced'}.log"
        fork_servers[tree, traced] = ForkServer(architectures, bench.environment(tree, traced=traced), log)

    def launcher(tree: Tree, traced: bool = True) -> Launcher:
        if bench.standin is None:
            return Spawner(engine.RANK, bench.environment(tree))
        for each in {(tree, traced)} | _still_to_run(request.session, request.config.getoption("kept")):
            if each not in fork_servers:
                begin(*each)
        return fork_servers[tree, traced]

    yield launcher
    for fork_server in fork_servers.values():
        fork_server.close()


@pytest.fixture(scope="session")
def checkpoint(bench: Bench) -> Callable[[Model], Path]:
    return lambda model: checkpoints.make(model, bench.work)


@pytest.fixture(scope="session")
def expected(checkpoint: Callable[[Model], Path]) -> Callable[[Model], dict[int, list[int]]]:
    """Hugging Face's greedy tokens by prompt index."""
    return lambda model: reference.expected_tokens(checkpoint(model))


@pytest.fixture(scope="session")
def asked(
    request: pytest.FixtureRequest, expected: Callable[[Model], dict[int, list[int]]]
) -> Callable[[EngineRun, Round], dict[int, list[int]]]:
    """Hugging Face's tokens for the prompts of a round, but those that the release gets wrong by itself."""
    facts = Facts.of(request.config.getoption("set"))

    def asked(run: EngineRun, turn: Round) -> dict[int, list[int]]:
        want = expected(run.model)
        indexes = {index for rank in range(run.dp_size) for index in turn.asked(rank)}
        return {index: want[index] for index in indexes - facts.gets_wrong(run)}

    return asked


@pytest.fixture(scope="session")
def release(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """What defects.toml says of the set's release under ``release``."""
    found: Mapping[str, Any] = _tables()["release"][request.config.getoption("set")]
    return found


@pytest.fixture(scope="session")
def report_of(
    request: pytest.FixtureRequest,
    bench: Bench,
    checkpoint: Callable[[Model], Path],
    launcher: Callable[..., Launcher],
) -> Callable[[EngineRun], Report]:
    """Runs an engine the first time that a test asks for it, unless it is on the pristine tree and its report is kept;
    later tests get the same report."""
    reports: dict[EngineRun, Report] = request.config.stash[REPORTS]
    folder: Path | None = request.config.getoption("kept")

    def report_of(run: EngineRun) -> Report:
        if run not in reports and folder and run.tree is Tree.PRISTINE and (report := kept.load(run, folder)):
            reports[run] = report
        chip = bench.chip(run.tree)
        if chip and run.soc == SOC_310P and not chip.upper().startswith("ASCEND310P"):
            pytest.skip(f"the installed wheel is built for {chip}; a 310P needs a wheel of its own")
        if run not in reports:
            work = bench.work / f"run{len(reports)}"
            ranks, traces = launcher(run.tree, run.traced), bench.traces(run.tree)
            reports[run] = report = engine.run(run, checkpoint(run.model), work, ranks, traces)
            (work / "report.txt").write_text(f"{report}\n")
        return reports[run]

    return report_of


@pytest.fixture(scope="session")
def ask(bench: Bench, launcher: Callable[[Tree], Launcher]) -> Callable[..., Any]:
    """``ask(tree, function, **arguments)``: the answer of a function of upstream_calls.py that runs on ``tree``."""
    numbers = itertools.count()

    def ask(tree: Tree, function: str, soc: int | None = None, **arguments: object) -> Any:
        folder = bench.work / f"call{next(numbers)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        job = {"script": "upstream_calls", "function": function, "arguments": arguments}
        (folder / "job.json").write_text(json.dumps(job))
        ranks = launcher(tree)
        pid = ranks.start(folder, {} if soc is None else {"STANDIN_SOC": str(soc)})
        deadline = time.monotonic() + CALL_LIMIT
        while (code := ranks.poll(pid)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if code != 0:
            if code is None:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"{function} on {tree.value}: exit {code}\n{(folder / 'log').read_text()}", pytrace=False)
        return json.loads((folder / "answer.json").read_text())

    return ask


@pytest.fixture
def seen(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Hands what a test saw to the table of defects."""
    return lambda what: record_property("seen", what)


def _tree(item: pytest.Item) -> Tree | None:
    """The tree that a test looks at: of its engine run, its parameter ``tree``, or as its marker says."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if "run" in parameters:
        return parameters["run"].tree
    named = [mark.kwargs["tree"] for mark in item.iter_markers("defect") if "tree" in mark.kwargs]
    return parameters.get("tree", named[0] if named else None)


@pytest.fixture(autouse=True)
def defect(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Hands the defects that a test is about, and the tree that it looks at, to the table of defects."""
    names = [name for mark in request.node.iter_markers("defect") for name in mark.args]
    if _is_quick(request.node):
        record_property("quick", "yes")
    if names:
        record_property("defect", " ".join(dict.fromkeys(names)))
        record_property("tree", _tree(request.node).value)
        if any(mark.kwargs.get("refuted") for mark in request.node.iter_markers("defect")):
            record_property("refuted", "yes")


@pytest.fixture(autouse=True)
def mode(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Hands the engine run that a test is parametrised with to the report's column `mode`."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "run" in callspec.params:
        record_property("mode", str(callspec.params["run"]))
    elif request.module.__name__ == "test_driver":
        record_property("mode", "the tests' driver, no engine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keeps the report of a pristine engine run when a test that looked at it has passed; drops it when one failed."""
    report = yield
    folder: Path | None = item.config.getoption("kept")
    run = item.callspec.params.get("run") if hasattr(item, "callspec") else None
    if folder and call.when == "call" and run in item.config.stash[REPORTS] and run.tree is Tree.PRISTINE:
        if report.failed:
            kept.drop(run, folder)
        elif report.passed and not kept.file_of(run, folder).is_file():
            kept.store(item.config.stash[REPORTS][run], folder)
    return report


def _tables() -> dict[str, Any]:
    with (Path(__file__).parent / "defects.toml").open("rb") as file:
        return tomllib.load(file)


@dataclass(frozen=True)
class Facts:
    """What defects.toml says of a set's release.

    Attributes:
        absent: defects, or tests of one, that its pristine tree does not show.
        unreachable: defects that neither tree can show, because what they need fails by itself.
        runs: beginnings of the names of engine runs that are not for it.
        tests: tests that are not for it, on either tree.
        wrong: prompts whose tokens it gets wrong by itself, by the beginning of an engine run's name.
    """

    absent: frozenset[str]
    unreachable: frozenset[str]
    runs: frozenset[str]
    tests: frozenset[str] = frozenset()
    wrong: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, set_name: str) -> "Facts":
        tables = _tables()
        names = ("absent", "unreachable", "runs", "tests")
        wrong = {run: frozenset(of["prompts"]) for run, of in tables["wrong"].get(set_name, {}).items()}
        return cls(*(frozenset(tables.get(name, {}).get(set_name, ())) for name in names), wrong)

    def gets_wrong(self, run: EngineRun) -> frozenset[int]:
        """The prompts whose tokens are not those of the model in an engine run of the release, whatever the tree."""
        names = [name for name in self.wrong if str(run).startswith(name)]
        return self.wrong[max(names, key=len)] if names else frozenset()

    def leave_out(self, item: pytest.Item) -> bool:
        """Whether the release has nothing for a test to show."""
        run = str(item.callspec.params.get("run", "")) if hasattr(item, "callspec") else ""
        test = getattr(item, "originalname", item.name)
        if test in self.tests or any(run.startswith(name) for name in self.runs):
            return True
        marks = list(item.iter_markers("defect"))
        names = {name for mark in marks for name in mark.args}
        if not names:
            return False
        unreachable = names <= self.unreachable
        if any(mark.kwargs.get("refuted") for mark in marks):
            return not unreachable
        absent = _tree(item) is Tree.PRISTINE and (names <= self.absent or test in self.absent)
        return unreachable or absent


def _still_to_run(session: pytest.Session, folder: Path | None) -> set[tuple[Tree, bool]]:
    """Trees of the engine runs of this session's tests, traced or not, but of those whose reports are kept."""
    found = (item.callspec.params.get("run") for item in session.items if hasattr(item, "callspec"))
    left = (run for run in found if run and not (folder and kept.file_of(run, folder).is_file()))
    return {(run.tree, run.traced) for run in left}


def _is_quick(item: pytest.Item) -> bool:
    """Whether a test is in the quick tier: it is marked so, and its engine run is one of those."""
    marked = item.get_closest_marker("quick") is not None
    return marked and hasattr(item, "callspec") and item.callspec.params.get("run") in engine_runs.QUICK


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORTS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    facts, quick = Facts.of(config.getoption("set")), config.getoption("quick")
    left_out = [item for item in items if facts.leave_out(item) or (quick and not _is_quick(item))]
    if left_out:
        shown = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        items[:] = shown
    for item in items:
        if item.get_closest_marker("defect") and _tree(item) is None:
            raise pytest.UsageError(f"{item.nodeid}: which tree shows the defect? Give the marker a tree")
    if config.getoption("device") == "npu":
        traced = pytest.mark.skip(reason="an NPU writes no trace")
        for item in items:
            if "standin" in item.keywords:
                item.add_marker(traced)
