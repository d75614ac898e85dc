# SPDX-License-Identifier: Apache-2.0
"""A deployment as `vllm serve` has it, asked over HTTP.

The step before which a request is added is a time here, of `_STEP` seconds for each.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adapters
import serving
from engine import Outcome, first_free_port, json_lines
from nursery import Launcher, end
from vigil import POLL, Vigil

from survey import asks
from survey.cost import Meter
from survey.deployment import Deployment
from survey.seen import Seen

NAME = "tiny"
_STEP = 0.05
_LIMIT = 600.0
_WORD = re.compile(r"t(\d+)")
_PORTS = 20


class _RefusedError(Exception):
    """The server answered a request with something else than tokens."""


@dataclass(frozen=True)
class _Server:
    port: int
    pid: int
    folder: Path
    meter: Meter


def run(deployment: Deployment, checkpoint: Path, work: Path, launcher: Launcher) -> Seen:
    """Runs it in the empty folder ``work``. Never raises for what the servers do: that is in what it finds."""
    shutil.rmtree(work, ignore_errors=True)
    started = time.monotonic()
    lines: list[dict[str, Any]] = []

    def seen(outcome: Outcome, why: str) -> Seen:
        return Seen(outcome, why, time.monotonic() - started, (*lines, *json_lines(server.folder / "progress")))

    with _running(deployment, checkpoint, work, launcher) as server:
        try:
            serving.until_healthy(server.port, server.pid, launcher, server.folder / "log")
        except RuntimeError as error:
            return seen(Outcome.ERROR, str(error).partition("\n")[0])
        lines += [{"ready": time.monotonic() - started, "cpu": server.meter.cpu_seconds()}, {"begin": time.time()}]
        customer = _Customer(deployment, checkpoint, server)
        outcome, why = customer.ask_all(launcher)
        lines.append({"answers": customer.answers})
        if outcome is Outcome.DONE:
            lines.append({"grown_kib": server.meter.grown_kib()})
        return seen(outcome, why)


@contextlib.contextmanager
def _running(deployment: Deployment, checkpoint: Path, work: Path, launcher: Launcher) -> Iterator[_Server]:
    """A server, started; none of its processes runs after the block."""
    port = first_free_port(_PORTS)
    for_rpc, for_ranks = port + 1, port + 2  # vLLM counts up from the last
    folder = work / "server"
    folder.mkdir(parents=True)
    arguments = _arguments(deployment, checkpoint, str(folder / "kv"), port)
    arguments += [f"--data-parallel-size={deployment.dp_size}", "--data-parallel-address=127.0.0.1"]
    arguments.append(f"--data-parallel-rpc-port={for_rpc}")
    job = {"script": "survey.server", "arguments": arguments, "progress": str(folder / "progress")}
    (folder / "job.json").write_text(json.dumps(job, indent=1))
    environment = deployment.environment | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_DP_MASTER_PORT": str(for_ranks),
    }
    pid = launcher.start(folder, environment)
    try:
        yield _Server(port, pid, folder, Meter.of(pid))
    finally:
        end(launcher, pid)


def _arguments(deployment: Deployment, checkpoint: Path, storage: str, port: int) -> list[str]:
    """Of the command line."""
    given = deployment.arguments(str(checkpoint), storage)
    found = [given.pop("model"), "--host=127.0.0.1", f"--port={port}", f"--served-model-name={NAME}"]
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


@dataclass
class _Customer:
    """Asks for what a deployment's ranks are asked; ``answers`` has them by request, as `reading` takes them."""

    deployment: Deployment
    checkpoint: Path
    server: _Server
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = json.loads((self.checkpoint / "expected.json").read_text())
        self._grammars = {name: one["grammar"] for name, one in expected.items() if "grammar" in one}
        self._asked = {one.id: one for of in self.deployment.asked for one in of}

    def ask_all(self, launcher: Launcher) -> tuple[Outcome, str]:
        loaded = range(adapters.ADAPTERS if self.deployment.settings["adapters"] == "on" else 0)
        # In turn, and one without.
        models = itertools.cycle([*(f"adapter{number}" for number in loaded), NAME])
        vigil = Vigil([self.server.pid, *serving.engines(self.server.folder / "log").values()])
        with ThreadPoolExecutor(16) as threads:
            futures: dict[str, Future[None]] = {}
            for name, one in self._asked.items():
                futures[name] = threads.submit(self._ask, one, next(models), futures)
            if trouble := _wait([*futures.values()], self.server, launcher, vigil):
                end(launcher, self.server.pid)  # so that no thread waits for an answer any more
                return trouble
        return Outcome.DONE, "every request is answered"

    def _ask(self, one: asks.Request, model: str, before: dict[str, Future[None]]) -> None:
        prompt = list(one.prompt)
        if one.follows is not None:
            before[one.follows].result()
            prompt = [*self._asked[one.follows].prompt, *self.answers[one.follows]["choices"][0]["tokens"], *prompt]
        time.sleep(one.at * _STEP)
        body = {"model": model, "prompt": prompt, "max_tokens": one.tokens, "temperature": 0.0, "ignore_eos": True}
        body |= dict(one.sampling)
        if one.grammar:  # vLLM ignores the name that it does not have
            grammar = self._grammars[one.id]
            body |= {"guided_regex": grammar, "structured_outputs": {"regex": grammar}}
        if one.abort_at is not None:
            self._hang_up(body, one.abort_at)
        else:
            self.answers[one.id] = _answer(self._post(body), prompt)

    def _post(self, body: dict[str, Any]) -> Any:
        with serving.request(self.server.port, "POST", "/v1/completions", body, _LIMIT) as response:
            text = response.read()
        if response.status != http.client.OK:
            raise _RefusedError(f"{response.status}: {text.decode(errors='replace')[:300]}")
        return json.loads(text)

    def _hang_up(self, body: dict[str, Any], after: int) -> None:
        """Asks for a stream, and goes after some of its events."""
        streamed = body | {"stream": True}
        with serving.request(self.server.port, "POST", "/v1/completions", streamed, _LIMIT) as response:
            for _ in range(2 * after):
                response.readline()


def _answer(found: Any, prompt: list[int]) -> dict[str, Any]:
    """Of a completion, as `reading` takes it."""
    choices = []
    for one in found["choices"]:
        steps = (one["logprobs"] or {}).get("top_logprobs") or ()
        top = [sorted(step.values(), reverse=True) for step in steps]
        choices.append({"tokens": [int(word) for word in _WORD.findall(one["text"])], "top": top})
    of_prompt = found["choices"][0].get("prompt_logprobs")
    if of_prompt is not None:
        of_prompt = [step[str(token)]["logprob"] for token, step in zip(prompt[1:], of_prompt[1:], strict=True)]
    return {"choices": choices, "prompt": of_prompt}


def _wait(
    futures: Sequence[Future[None]], server: _Server, launcher: Launcher, vigil: Vigil
) -> tuple[Outcome, str] | None:
    """Waits until all are done; what went wrong, or None."""
    while True:
        time.sleep(POLL)
        done = [one for one in futures if one.done()]
        for one in done:
            if (error := one.exception()) is not None:
                return Outcome.ERROR, f"{type(error).__name__}: {error}"
        if len(done) == len(futures):
            return None
        if (code := launcher.poll(server.pid)) is not None:
            return Outcome.ERROR, f"the server exited with {code}"
        if why := vigil.look(float(len(done))):
            return Outcome.HANG, why
