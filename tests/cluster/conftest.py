# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of several raylets on this machine, and the kit run on it as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

NPUS = 2
"""Of each node."""
LIMIT_S = 300.0
"""For one run of the kit; each test's own timeouts are shorter."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster")
    group.addoption("--kit", type=Path, required=True, help="patchset-node.pyz of the set")
    group.addoption("--pristine", type=Path, required=True, help="verified, unpatched vllm-ascend")


@pytest.fixture(scope="session", autouse=True)
def ray_folder() -> Iterator[None]:
    """Ray's folder of sessions and its note of the current cluster: ours alone; short, because sockets lie there."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="session")
def kit(request: pytest.FixtureRequest) -> Path:
    file: Path = request.config.getoption("--kit")
    return file


@dataclass(frozen=True)
class Answer:
    """What a run of the kit gave."""

    code: int
    document: dict[str, Any]
    seconds: float

    def verdicts(self, what: str) -> dict[str, str]:
        """By the last word of a node's name, which is how it was started here, or by rank."""
        key = "name" if what == "nodes" else "rank"
        return {str(row[key]).split()[-1]: row["verdict"] for row in self.document[what]}

    def why(self, node: str) -> str:
        row = next(row for row in self.document["nodes"] if row["name"].endswith(f" {node}"))
        return str(row["why"])


class Run:
    """A run of the kit that goes on."""

    def __init__(self, kit: Path, *words: str) -> None:
        self._begun = time.monotonic()
        command = [sys.executable, str(kit), "cluster", *words, "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def says(self, text: str) -> None:
        """Waits until it has said something on stderr."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text in line:
                return
        pytest.fail(f"it never said {text!r}")

    def answer(self) -> Answer:
        try:
            out, _ = self._process.communicate(timeout=LIMIT_S + 30)
        finally:
            self._process.kill()
        return Answer(self._process.returncode, json.loads(out), time.monotonic() - self._begun)


def run(kit: Path, *words: str) -> Answer:
    """A run of the kit from beginning to end."""
    return Run(kit, *words).answer()


class Nodes:
    """The raylets of one cluster, by name."""

    def __init__(self, pristine: Path) -> None:
        self._pristine = pristine
        self._cluster = Cluster()
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def start(self, name: str, tree: Path | None = None) -> None:
        """A node whose workers import vllm_ascend from a tree; by default from the patched one, as this process."""
        here = os.environ["PYTHONPATH"].split(os.pathsep)
        path = [str(tree) if tree and (Path(entry) / "vllm_ascend").is_dir() else entry for entry in here]
        self._nodes[name] = self._cluster.add_node(
            node_name=name,
            num_cpus=NPUS,
            resources={"NPU": NPUS},
            object_store_memory=80 << 20,
            include_dashboard=False,
            env_vars={"PYTHONPATH": os.pathsep.join(path)},
        )

    def leave(self, name: str) -> None:
        """As `ray stop`."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=True)

    def raylet(self, name: str) -> psutil.Process:
        return psutil.Process(self._nodes[name].all_processes["raylet"][0].process.pid)

    def kill(self, name: str) -> None:
        """As a machine that loses its power."""
        node = self._nodes.pop(name)
        self._cluster.worker_nodes.remove(node)
        node.kill_raylet(check_alive=False)
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)

    def ranks(self, name: str) -> list[psutil.Process]:
        """The processes of a node that are ranks and make steps."""
        workers = self.raylet(name).children(recursive=True)
        return [worker for worker in workers if "Rank.run" in " ".join(worker.cmdline())]

    def stop(self) -> None:
        """Ends all of it, and sees that nothing is left."""
        started = [
            psutil.Process(process.process.pid)
            for node in self._cluster.list_all_nodes()
            for kind in node.all_processes.values()
            for process in kind
            if process.process.poll() is None
        ]
        family = started + [child for process in started for child in process.children(recursive=True)]
        self._cluster.shutdown()
        _, left = psutil.wait_procs(family, timeout=10)
        assert not left, f"left running: {left}"


@pytest.fixture(scope="session")
def nodes(request: pytest.FixtureRequest, ray_folder: None) -> Iterator[Nodes]:
    """Three nodes of two devices, all patched: n0, which is the head, n1 and n2."""
    nodes = Nodes(request.config.getoption("--pristine"))
    try:
        for name in ("n0", "n1", "n2"):
            nodes.start(name)
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture(scope="session")
def all_fine(nodes: Nodes, kit: Path) -> Answer:
    """A smoke run on the three nodes, which also says how fast this machine is today.

    Without --address: it finds this machine's cluster.
    """
    return run(kit, "smoke", "--dp=4", "--nodes=3", f"--timeout={LIMIT_S}")


@pytest.fixture
def unpatched_node(nodes: Nodes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fourth node, which has upstream's release."""
    nodes.start("n3", request.config.getoption("--pristine"))
    yield "n3"
    nodes.leave("n3")
