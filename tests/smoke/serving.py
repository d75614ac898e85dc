# SPDX-License-Identifier: Apache-2.0
"""Runs ``vllm serve`` with data parallelism on the loopback, and asks it for tokens over HTTP."""

import contextlib
import http.client
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import first_free_port
from fork_server import Launcher, end
from job import ADDITIONAL_CONFIG, GRAPH_SIZES, MAX_SEQS, MAX_TOKENS, Mode
from reference import PROMPTS, TOKENS
from vigil import POLL, STILL_LOOKS_AT_START, Vigil

SCRIPT = Path(__file__).with_name("server.py")
ANSWER_LIMIT = 600.0
_POLL = 0.1
_WORD = re.compile(r"t(\d+)")
_ENGINE = re.compile(r"\(EngineCore_(?:DP)?(\d+) pid=(\d+)\)")
_GENERATED = re.compile(r'^vllm:generation_tokens_total\{engine="(\d+)".*\} (\S+)$', re.MULTILINE)


class NoAnswerError(Exception):
    """The server took a request and did not answer it."""


@dataclass(frozen=True)
class Server:
    """A server that has started: its first process, and the log of what all of them say."""

    port: int
    pid: int
    log: Path

    def ask(self, index: int, limit: float = ANSWER_LIMIT, tokens: int = TOKENS) -> list[int]:
        """The greedy tokens that follow ``PROMPTS[index]``. Raises NoAnswerError after ``limit`` seconds."""
        try:
            with self._completion(index, tokens, limit) as response:
                body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(repr(error)) from error
        if response.status != http.client.OK:
            raise NoAnswerError(f"{response.status}: {body.decode(errors='replace')}")
        return [int(word) for word in _WORD.findall(json.loads(body)["choices"][0]["text"])]

    def ask_all(self, pause: float = 0.0) -> dict[int, list[int]]:
        """The tokens of every prompt by its index, all asked at once or each ``pause`` seconds after the one before."""
        with ThreadPoolExecutor(len(PROMPTS)) as threads:
            answers = {}
            for index in range(len(PROMPTS)):
                answers[index] = threads.submit(self.ask, index)
                time.sleep(pause)
            return {index: answer.result() for index, answer in answers.items()}

    def abort(self, index: int) -> None:
        """Asks for as many tokens as fit, waits for the first and hangs up."""
        with self._completion(index, MAX_TOKENS - len(PROMPTS[index]), ANSWER_LIMIT, stream=True) as response:
            assert response.readline().startswith(b"data:")
        # Waits until the server has noticed.
        self._until_logged(f"{index}-aborted", "aborted")

    def engines(self) -> dict[int, int]:
        """Process ids of the engines by DP rank."""
        return engines(self.log)

    def generated(self) -> dict[int, float]:
        """Tokens generated so far by each rank's engine."""
        with request(self.port, "GET", "/metrics", None, ANSWER_LIMIT) as response:
            return {int(rank): float(count) for rank, count in _GENERATED.findall(response.read().decode())}

    def _until_logged(self, request: str, word: str) -> None:
        wanted = re.compile(rf"{request}\S* {word}")
        deadline = time.monotonic() + ANSWER_LIMIT
        while not wanted.search(self.log.read_text(errors="replace")):
            if time.monotonic() > deadline:
                raise NoAnswerError(f"the server does not say that {request} is {word}")
            time.sleep(_POLL)

    def _completion(
        self, index: int, limit: int, timeout: float, *, stream: bool = False
    ) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
        body = {"prompt": list(PROMPTS[index]), "max_tokens": limit, "temperature": 0.0, "ignore_eos": True}
        headers = {"X-Request-Id": f"{index}-aborted"} if stream else {}
        return request(self.port, "POST", "/v1/completions", body | {"stream": stream}, timeout, headers)


def engines(log: Path) -> dict[int, int]:
    """Process ids of a server's engines by DP rank, as its log names them."""
    return {int(rank): int(pid) for rank, pid in _ENGINE.findall(log.read_text(errors="replace"))}


@contextlib.contextmanager
def request(
    port: int,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    timeout: float,
    headers: dict[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """The answer of a server on the loopback; ``timeout`` is in seconds, for each read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
        yield connection.getresponse()
    finally:
        connection.close()


@contextlib.contextmanager
def serving(
    checkpoint: Path,
    mode: Mode,
    dp_size: int,
    folder: Path,
    launcher: Launcher,
    *,
    fork: bool,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server of ``checkpoint`` on ``dp_size`` ranks, until the end of the block; its engines are forked if ``fork``.

    ``settings`` are environment variables of all its processes. Raises RuntimeError with its log where it does not
    start.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = first_free_port(1)
    words = _tokenizer(folder / "tokenizer")
    arguments = _arguments(checkpoint, words, mode, dp_size, port)
    (folder / "job.json").write_text(json.dumps({"script": "server", "arguments": arguments}, indent=1))
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_HOST_IP": "127.0.0.1", **(settings or {})}
    if fork:
        environment["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    pid = start_healthy(port, launcher, folder, environment)
    try:
        yield Server(port, pid, folder / "log")
    finally:
        end(launcher, pid)


def start_healthy(port: int, launcher: Launcher, folder: Path, environment: Mapping[str, str]) -> int:
    """Starts the server of ``folder``; its process id. vLLM looks for free ports seconds before it listens there, so a
    start that has lost one is made again, twice. Raises RuntimeError with its log where it does not start."""
    log = folder / "log"
    for again in (True, True, False):
        log.unlink(missing_ok=True)
        pid = launcher.start(folder, environment)
        try:
            until_healthy(port, pid, launcher, log)
        except BaseException as error:
            end(launcher, pid)
            lost_port = isinstance(error, RuntimeError) and "EADDRINUSE" in log.read_text(errors="replace")
            if not (again and lost_port):
                raise
        else:
            break
    return pid


def until_healthy(port: int, pid: int, launcher: Launcher, log: Path) -> None:
    """Waits for a server that has been started. Raises RuntimeError with its log where it does not start."""
    vigil = Vigil([pid], STILL_LOOKS_AT_START)
    while not (why := vigil.look(log.stat().st_size if log.exists() else 0)):
        if (code := launcher.poll(pid)) is not None:
            why = f"it exited with {code}"
            break
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            request(port, "GET", "/health", None, ANSWER_LIMIT) as response,
        ):
            if response.status == http.client.OK:
                return
        time.sleep(POLL)
    raise RuntimeError(f"the server did not start: {why}\n{log.read_text(errors='replace')[-4000:]}")


def _arguments(checkpoint: Path, tokenizer: Path, mode: Mode, dp_size: int, port: int) -> list[str]:
    # float32 for exact tokens: see job.py.
    options: dict[str, object] = {
        "host": "127.0.0.1",
        "port": port,
        "data-parallel-size": dp_size,
        "data-parallel-address": "127.0.0.1",
        "served-model-name": "tiny",
        "tokenizer": tokenizer,
        "dtype": "float32",
        "max-model-len": MAX_TOKENS,
        "max-num-batched-tokens": 4 * MAX_TOKENS,
        "max-num-seqs": MAX_SEQS,
        "num-gpu-blocks-override": 64,
        "additional-config": json.dumps(ADDITIONAL_CONFIG),
    }
    if mode is Mode.ACL_GRAPH:
        options["compilation-config"] = json.dumps({"cudagraph_capture_sizes": GRAPH_SIZES})
    flags = ["--no-enable-prefix-caching"] + ["--enforce-eager"] * (mode is Mode.EAGER)
    return [str(checkpoint), *flags, *(f"--{name}={value}" for name, value in options.items())]


def _tokenizer(folder: Path) -> Path:
    """A tokenizer whose token 7 is the word ``t7``, so that a text says exactly which tokens it is made of."""
    from checkpoints import VOCABULARY
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"t{index}": index for index in range(VOCABULARY)}, unk_token="t0"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return folder
