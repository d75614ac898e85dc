# SPDX-License-Identifier: Apache-2.0
"""Pipeline stages and a step that schedules nothing, on a real engine of two stages."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pipeline
import pytest
from checkpoints import Model
from fork_server import Launcher, Spawner
from job import DP1_ROUNDS, EngineRun, Tree
from reference import PROMPTS, TOKENS

Pipeline = Callable[..., dict[str, Any]]
PROMPT = 0
LIMIT = 600.0
NO_ANSWER = 60.0


@pytest.fixture
def two_stages(bench: Any, checkpoint: Callable[[Model], Path], launcher: Callable[[Tree], Launcher]) -> Pipeline:
    """What pipeline.py answers on a tree."""

    def run(tree: Tree, limit: float = LIMIT) -> dict[str, Any]:
        folder = bench.work / f"pipeline-{tree.value}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        arguments = EngineRun(tree, Model.QWEN3, rounds=DP1_ROUNDS).engine_arguments(str(checkpoint(Model.QWEN3)), "")
        job = {"script": "pipeline", "engine": arguments, "prompt": PROMPTS[PROMPT], "new_tokens": TOKENS}
        (folder / "job.json").write_text(json.dumps(job))
        ranks = launcher(tree) if bench.standin else Spawner(Path(pipeline.__file__), bench.environment(tree))
        pid = ranks.start(folder, {})
        deadline = time.monotonic() + limit
        while (code := ranks.poll(pid)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # the stages' workers, which may wait for each other
        if code != 0:
            pytest.fail(f"exit {code}\n{(folder / 'log').read_text()[-4000:]}", pytrace=False)
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
        return answer

    return run


@pytest.mark.defect("D8")
@pytest.mark.parametrize("tree", [Tree.PRISTINE])
def test_pristine_stages_wait_and_assert(
    two_stages: Pipeline, expected: Callable[[Model], dict[int, list[int]]], tree: Tree, seen: Callable[[str], None]
) -> None:
    """The first stage asserts that there are tensors to send; the second waits for them."""
    answer = two_stages(tree)
    assert answer["before"] == expected(Model.QWEN3)[PROMPT], "it serves requests"
    first, second = answer["stages"]
    assert first.startswith("fails") and second == pipeline.WAITS, answer["stages"]
    seen("first stage asserts, second waits")


@pytest.mark.defect("D8")
@pytest.mark.parametrize("tree", [Tree.PRISTINE])
def test_pristine_engine_never_answers(two_stages: Pipeline, tree: Tree, seen: Callable[[str], None]) -> None:
    """Where vLLM's own engine hands steps without tokens to the stages, its first request is enough."""
    with pytest.raises(pytest.fail.Exception, match=r"(?s)exit None.*isinstance\(output, IntermediateTensors\)"):
        two_stages(tree, NO_ANSWER)
    seen("the first request: a stage asserts, no answer")


@pytest.mark.defect("D8")
@pytest.mark.parametrize("tree", [Tree.PATCHED])
def test_stages_leave_an_empty_step_out(
    two_stages: Pipeline, expected: Callable[[Model], dict[int, list[int]]], tree: Tree
) -> None:
    answer = two_stages(tree)
    assert answer["stages"] == [pipeline.ANSWERED, pipeline.ANSWERED]
    assert answer["before"] == answer["after"] == expected(Model.QWEN3)[PROMPT]
