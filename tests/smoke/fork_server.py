# SPDX-License-Identifier: Apache-2.0
"""A process that has imported torch and vLLM once, and forks ranks from there.

Importing vLLM and inspecting its model classes takes most of an engine's start; all ranks that run
on one tree share it this way. On real NPUs every rank is a process of its own instead (`Spawner`).

``python fork_server.py ARCHITECTURE..`` reads one JSON request a line and answers each with one line:
``{"start": folder, "environment": {..}}`` gives ``{"pid": n}``, ``{"poll": n}`` gives
``{"code": null or exit code}``. It ends, and every rank with it, when its standard input does.
"""

import contextlib
import ctypes
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_PR_SET_PDEATHSIG = 1
_POLL = 0.02


class Launcher(Protocol):
    """Starts rank processes; each is the leader of its own process group."""

    def start(self, folder: Path, environment: Mapping[str, str]) -> int:
        """Runs ``folder``'s job.json with its output in ``folder``'s log; the process id.

        That is the module that the job names as its ``script``, or rank.py.
        """

    def poll(self, pid: int) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""


def end(launcher: Launcher, pid: int) -> None:
    """Ends ``pid``'s whole process group and waits until its leader is gone."""
    while True:
        # Read before the signal: a member of the group that the leader began last is ended too.
        running = launcher.poll(pid) is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if not running:
            return
        time.sleep(_POLL)


class Spawner:
    """Every rank is a new Python that runs ``script``, or the one beside it that its job names."""

    def __init__(self, script: Path, environment: Mapping[str, str]) -> None:
        self._script = script
        self._environment = environment
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, folder: Path, environment: Mapping[str, str]) -> int:
        job = folder / "job.json"
        named = json.loads(job.read_text()).get("script", self._script.stem) if job.exists() else self._script.stem
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(self._script.with_name(f"{named}.py")), str(folder / "job.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**self._environment, **environment},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._processes[process.pid] = process
        return process.pid

    def poll(self, pid: int) -> int | None:
        return self._processes[pid].poll()


class ForkServer:
    """The other end of a `fork_server.py` that runs in ``environment``."""

    def __init__(self, architectures: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *architectures],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                text=True,
            )
        self._log = log

    def start(self, folder: Path, environment: Mapping[str, str]) -> int:
        return int(self._ask(start=str(folder), environment=dict(environment))["pid"])

    def poll(self, pid: int) -> int | None:
        code: int | None = self._ask(poll=pid)["code"]
        return code

    def close(self) -> None:
        """Ends it and every rank that still runs."""
        self._process.kill()
        with self._process:
            pass

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"vLLM could not be imported, or its process ended:\n{self._log.read_text()[-3000:]}")
        found: dict[str, Any] = json.loads(answer)
        return found


def die_with_parent() -> None:
    """Have this process killed when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _import_vllm(architectures: Sequence[str]) -> None:
    """Imports in the order in which an engine does, as far as nothing depends on its settings."""
    from vllm import LLM, ModelRegistry  # noqa: F401
    from vllm.model_executor.models import registry
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    # vLLM inspects each class in a new Python, which imports everything again.
    registry._run_in_subprocess = _in_a_fork
    for architecture in architectures:
        ModelRegistry._try_inspect_model_cls(architecture)


def _in_a_fork(function: Callable[[], Any]) -> Any:
    """The picklable result of ``function``, called in a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(function(), stream)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        pickled = stream.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("a model class could not be inspected")
    return pickle.loads(pickled)


def _start(folder: str, environment: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent()
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment)
        for descriptor, target in (
            (os.open(os.devnull, os.O_RDONLY), 0),
            (os.open("log", os.O_CREAT | os.O_WRONLY), 1),
        ):
            os.dup2(descriptor, target)
        os.dup2(1, 2)
        job = json.loads(Path("job.json").read_text())
        importlib.import_module(job.get("script", "rank")).main("job.json")
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def answer(request: Mapping[str, Any], codes: dict[int, int]) -> dict[str, int | None]:
    """The answer to one request; ``codes`` are the exit codes of ranks that have ended, by process id."""
    if "start" in request:
        started = _start(request["start"], request["environment"])
        codes.pop(started, None)  # an earlier rank's: the system gives process ids again
        return {"pid": started}
    asked = request["poll"]
    if asked not in codes:
        pid, status = os.waitpid(asked, os.WNOHANG)
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
    return {"code": codes.get(asked)}


def main(architectures: Sequence[str]) -> None:
    # Answers go out by a descriptor of their own: what the imports print must not mix with them.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_vllm(architectures)
    codes: dict[int, int] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), codes)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
