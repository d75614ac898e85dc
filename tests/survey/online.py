# SPDX-License-Identifier: Apache-2.0
"""A deployment as `vllm serve` has it: one server for all ranks, the same with two API servers, or one for each rank,
between which somebody else shares the requests out."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapters
import serving
from engine import Outcome, first_free_port, json_lines
from fork_server import Launcher, end
from vigil import POLL, Vigil

from survey.cost import Meter
from survey.customer import NAME, Customer
from survey.deployment import Deployment
from survey.seen import Seen

# Of each server's own port, and of what all of them share; vLLM counts up from the last.
_PORTS = 20


@dataclass(frozen=True)
class _Server:
    port: int
    pid: int
    folder: Path
    meter: Meter

    @property
    def log(self) -> Path:
        return self.folder / "log"


def run(deployment: Deployment, checkpoint: Path, work: Path, launcher: Launcher) -> Seen:
    """Runs it in the empty folder ``work``. Never raises for what the servers do: that is in what it finds."""
    shutil.rmtree(work, ignore_errors=True)
    started = time.monotonic()
    lines: list[dict[str, Any]] = []

    def seen(outcome: Outcome, why: str) -> Seen:
        told = [line for one in servers for line in json_lines(one.folder / "progress")]
        return Seen(outcome, why, time.monotonic() - started, (*lines, *told))

    with _running(deployment, checkpoint, work, launcher) as servers:
        try:
            for one in servers:
                serving.until_healthy(one.port, one.pid, launcher, one.log)
        except RuntimeError as error:
            return seen(Outcome.ERROR, str(error).partition("\n")[0])
        ready = time.monotonic() - started
        lines += [{"ready": ready, "cpu": one.meter.cpu_seconds()} for one in servers]
        lines.append({"begin": time.time()})
        customer = Customer(deployment, checkpoint, [one.port for one in servers])
        watch = _Watch(servers, launcher)
        trouble = customer.ask_all(watch.until_done, watch.end)
        lines.append({"answers": customer.answers})
        lines += [{"wait": wait} for wait in customer.waits]
        if trouble:
            return seen(*trouble)
        lines += [{"grown_kib": one.meter.grown_kib()} for one in servers]
        return seen(Outcome.DONE, "every request is answered")


@contextlib.contextmanager
def _running(deployment: Deployment, checkpoint: Path, work: Path, launcher: Launcher) -> Iterator[list[_Server]]:
    """The servers, started; none of their processes runs after the block."""
    alone = deployment.settings["client"] == "serve_external"
    number = deployment.dp_size if alone else 1
    first = first_free_port(_PORTS)
    for_rpc, for_ranks = first + number, first + number + 1
    environment = deployment.environment | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_DP_MASTER_PORT": str(for_ranks),
    }
    servers: list[_Server] = []
    try:
        for rank in range(number):
            folder, port = work / f"server{rank}", first + rank
            folder.mkdir(parents=True)
            arguments = _arguments(deployment, checkpoint, str(folder / "kv"), port)
            arguments += [f"--data-parallel-size={deployment.dp_size}", "--data-parallel-address=127.0.0.1"]
            arguments.append(f"--data-parallel-rpc-port={for_rpc}")
            arguments += [f"--data-parallel-rank={rank}"] * alone
            job = {"script": "survey.server", "arguments": arguments, "progress": str(folder / "progress")}
            job |= {"sleeps": deployment.sleeps, "profiled": deployment.profiled, "slowed": deployment.slowed(rank)}
            (folder / "job.json").write_text(json.dumps(job, indent=1))
            pid = launcher.start(folder, environment)
            servers.append(_Server(port, pid, folder, Meter.of(pid)))
        yield servers
    finally:
        for one in servers:
            end(launcher, one.pid)


def _arguments(deployment: Deployment, checkpoint: Path, storage: str, port: int) -> list[str]:
    """Of the command line."""
    given = deployment.arguments(str(checkpoint), storage)
    found = [given.pop("model"), "--host=127.0.0.1", f"--port={port}", f"--served-model-name={NAME}"]
    found += ["--api-server-count=2"] * (deployment.settings["client"] == "serve_two_apis")
    for name, value in given.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            found.append(f"--{option}={json.dumps(value) if isinstance(value, dict) else value}")
    if deployment.settings["adapters"] == "on":
        folders = adapters.make(checkpoint / "plain")
        found += ["--lora-modules", *(f"adapter{number}={folder}" for number, folder in enumerate(folders))]
    return found


class _Watch:
    """Looks after servers that have started, while they are asked."""

    def __init__(self, servers: Sequence[_Server], launcher: Launcher) -> None:
        self._servers, self._launcher = servers, launcher
        engines = [pid for one in servers for pid in serving.engines(one.log).values()]
        self._vigil = Vigil([*(one.pid for one in servers), *engines])
        self._answered = 0

    def until_done(self, futures: Sequence[Future[None]]) -> tuple[Outcome, str] | None:
        """Waits until all are done; what went wrong, or None."""
        while True:
            time.sleep(POLL)
            done = [one for one in futures if one.done()]
            for one in done:
                if (error := one.exception()) is not None:
                    return Outcome.ERROR, f"{type(error).__name__}: {error}"
            if len(done) == len(futures):
                self._answered += len(done)
                return None
            for server in self._servers:
                if (code := self._launcher.poll(server.pid)) is not None:
                    return Outcome.ERROR, f"the server exited with {code}"
            if why := self._vigil.look(float(self._answered + len(done))):
                return Outcome.HANG, why

    def end(self) -> None:
        """Ends the servers, so that no thread waits for an answer any more."""
        for server in self._servers:
            end(self._launcher, server.pid)
