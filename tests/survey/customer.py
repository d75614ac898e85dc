# SPDX-License-Identifier: Apache-2.0
"""Asks servers over HTTP for what a deployment's ranks are asked.

The step before which a request is added is a time here, of `_STEP` seconds for each.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import adapters
import serving
from engine import Outcome

from survey import asks, pictures, reading
from survey.deployment import Deployment

NAME = "tiny"
_STEP = 0.05
_LIMIT = 600.0
_PATHS = {"sleep": "/sleep?level=1"}

Body = dict[str, Any]
Trouble = tuple[Outcome, str]


class RefusedError(Exception):
    """A server answered a request with something else than tokens."""


class Customer:
    """Asks for what a deployment's ranks are asked.

    ``answers`` has them by request, as `reading` takes them; ``waits`` the seconds until the first token of each
    request that is timed.
    """

    def __init__(self, deployment: Deployment, checkpoint: Path, ports: Sequence[int]) -> None:
        """``ports``: of the one server, or of each rank's."""
        self.answers: dict[str, dict[str, Any]] = {}
        self.waits: list[float] = []
        expected = json.loads((checkpoint / "expected.json").read_text())
        self._grammars = {name: one["grammar"] for name, one in expected.items() if "grammar" in one}
        self._deployment, self._ports = deployment, ports
        # Kept: of two API servers on one port, the one that started its profiler is to stop it.
        self._callers = {port: http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT) for port in ports}
        self._asked = {one.id: one for of in deployment.asked for one in of}
        # The ranks' servers in turn, where there are several.
        self._port = {one.id: ports[rank % len(ports)] for rank, of in enumerate(deployment.asked) for one in of}

    def ask_all(
        self, wait: Callable[[Sequence[Future[None]]], Trouble | None], stop: Callable[[], None]
    ) -> Trouble | None:
        """Phase after phase, each with what is called before it; what went wrong, or None.

        Args:
            wait: waits until all are done; what went wrong, or None.
            stop: ends the servers, so that no thread waits for an answer any more.
        """
        loaded = range(adapters.ADAPTERS if self._deployment.settings["adapters"] == "on" else 0)
        # In turn, and one without.
        models = itertools.cycle([*(f"adapter{number}" for number in loaded), NAME])
        with ThreadPoolExecutor(16) as threads:
            for phase, calls in enumerate(((), *self._deployment.between)):
                for call in calls:
                    if trouble := wait([threads.submit(self._call, port, call) for port in self._ports]):
                        stop()
                        return trouble
                futures: dict[str, Future[None]] = {}
                for name, one in self._asked.items():
                    if one.phase == phase:
                        futures[name] = threads.submit(self._ask, one, next(models), futures)
                if trouble := wait([*futures.values()]):
                    stop()
                    return trouble
        return None

    def _call(self, port: int, name: str) -> None:
        caller = self._callers[port]
        caller.request("POST", _PATHS.get(name, f"/{name}"))
        response = caller.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise RefusedError(f"{name}: {response.status}: {text.decode(errors='replace')[:300]}")

    def _ask(self, one: asks.Request, model: str, before: Mapping[str, Future[None]]) -> None:
        prompt = list(one.prompt)
        if one.follows is not None:
            before[one.follows].result()
            prompt = [*self._asked[one.follows].prompt, *self.answers[one.follows]["choices"][0]["tokens"], *prompt]
        time.sleep(one.at * _STEP)
        port = self._port[one.id]
        if self._deployment.kind.embeds:
            body = {"model": model, "input": prompt, "encoding_format": "float"}
            self.answers[one.id] = {"vector": _post(port, "/v1/embeddings", body)["data"][0]["embedding"]}
            return
        path, body = self._wanted(one, model, prompt)
        if one.abort_at is not None:
            _hang_up(port, path, body, one.abort_at)
        elif one.timed:
            wait, text = _stream(port, path, body)
            self.waits.append(wait)
            self.answers[one.id] = reading.of_text(text)
        else:
            self.answers[one.id] = reading.of_completion(
                _post(port, path, body), pictures.expanded(prompt, asks.MARKS[1])
            )

    def _wanted(self, one: asks.Request, model: str, prompt: list[int]) -> tuple[str, Body]:
        """Where it is asked for, and how."""
        body: Body = {"model": model, "max_tokens": one.tokens, "temperature": 0.0, "ignore_eos": True}
        body |= {"skip_special_tokens": False, **dict(one.sampling)}
        if one.grammar:  # vLLM ignores the name that it does not have
            grammar = self._grammars[one.id]
            body |= {"guided_regex": grammar, "structured_outputs": {"regex": grammar}}
        if one.picture is None:
            return "/v1/completions", body | {"prompt": prompt}
        # Only a chat has pictures; the server puts their marks before the text.
        text = " ".join(f"t{token}" for token in prompt[len(asks.MARKS) :])
        content = [
            {"type": "image_url", "image_url": {"url": pictures.address(one.picture)}},
            {"type": "text", "text": text},
        ]
        if (number := body.pop("logprobs", None)) is not None:
            body |= {"logprobs": True, "top_logprobs": number}
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": content}]}


def _post(port: int, path: str, body: Body) -> Any:
    with serving.request(port, "POST", path, body, _LIMIT) as response:
        text = response.read()
    if response.status != http.client.OK:
        raise RefusedError(f"{response.status}: {text.decode(errors='replace')[:300]}")
    return json.loads(text)


def _stream(port: int, path: str, body: Body) -> tuple[float, str]:
    """The seconds until the first token, and the text of all."""
    asked = time.monotonic()
    first, texts = math.nan, []
    with serving.request(port, "POST", path, body | {"stream": True}, _LIMIT) as response:
        if response.status != http.client.OK:
            raise RefusedError(f"{response.status}: {response.read().decode(errors='replace')[:300]}")
        for event in response:
            data = event.removeprefix(b"data:").strip()
            if data and data != b"[DONE]":
                first = first if texts else time.monotonic() - asked
                texts += [one["text"] for one in json.loads(data)["choices"]]
    return first, "".join(texts)


def _hang_up(port: int, path: str, body: Body, after: int) -> None:
    """Asks for a stream, and goes after some of its events."""
    with serving.request(port, "POST", path, body | {"stream": True}, _LIMIT) as response:
        for _ in range(2 * after):
            response.readline()
