# SPDX-License-Identifier: Apache-2.0
"""A real engine of two pipeline stages that is handed a step without tokens: ``python pipeline.py <job.json>``.

Answers with ``{"before": tokens, "stages": [what each stage did with the step], "after": tokens or null}`` in
answer.json. vLLM 0.10.1.1's own executors of more than one stage leave such steps out, so the step goes to the
stages' workers directly, as the executor would send it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import tokenless
from fork_server import die_with_parent

ANSWERED, WAITS = "answered", "waits"
_LIMIT = 20.0


def _generate(engine: Any, prompt: list[int], count: int, name: str) -> list[int]:
    """The first ``count`` tokens, by the engine core's own steps."""
    from vllm import SamplingParams

    core = engine.engine_core.engine_core
    sampling = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True, detokenize=False)
    engine.add_request(name, {"prompt_token_ids": prompt}, sampling)
    tokens: list[int] = []
    while len(tokens) < count:
        outputs, _ = core.step_with_batch_queue()
        for of_client in (outputs or {}).values():
            for output in of_client.outputs:
                tokens += output.new_token_ids
    return tokens


def _empty_step(engine: Any) -> list[str]:
    """What each stage's worker did with a step that schedules nothing."""
    executor = engine.model_executor
    nothing = engine.engine_core.engine_core.scheduler.schedule()
    assert nothing.total_num_scheduled_tokens == 0
    executor.rpc_broadcast_mq.enqueue(("execute_model", (nothing,), {}, None))
    found = []
    for worker in executor.workers:
        try:
            status, result = worker.worker_response_mq.dequeue(timeout=_LIMIT)
            found.append(ANSWERED if status.name == "SUCCESS" else f"fails: {result!r}")
        except TimeoutError:
            found.append(WAITS)
    return found


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    os.register_at_fork(after_in_child=die_with_parent)
    from vllm import LLM

    engine = LLM(**job["engine"] | {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}).llm_engine
    tokenless.accept(engine)
    answer: dict[str, Any] = {"before": _generate(engine, job["prompt"], job["new_tokens"], "before")}
    answer["stages"] = _empty_step(engine)
    works = answer["stages"] == [ANSWERED, ANSWERED]
    answer["after"] = _generate(engine, job["prompt"], job["new_tokens"], "after") if works else None
    Path("answer.json").write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
