# SPDX-License-Identifier: Apache-2.0
"""One rank of a deployment, forked by tests/smoke's nursery; reports as tests/smoke/rank.py does."""

import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[..., None]


def _serve(
    engine: Any, asked: list[dict[str, Any]], adapters: list[str], alone: bool, report: Say
) -> dict[str, list[list[int]]]:
    """Answers by request: token ids of each choice."""
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind

    # In turn, and one without.
    adapted = itertools.cycle([*(LoRARequest(path, number + 1, path) for number, path in enumerate(adapters)), None])
    answers: dict[str, list[list[int]]] = {}
    prompts: dict[str, list[int]] = {}
    waiting, steps = list(asked), 0

    def add_due() -> None:
        for one in [one for one in waiting if one["at"] <= steps]:
            waiting.remove(one)
            before: list[int] = []
            if one["follows"] is not None:
                before = prompts[one["follows"]] + answers[one["follows"]][0]
            prompts[one["id"]] = [*before, *one["prompt"]]
            # Of several answers only a request that asks for its end alone is given all at once.
            chosen = {"temperature": 0.0, "output_kind": RequestOutputKind.FINAL_ONLY} | one["sampling"]
            sampling = SamplingParams(max_tokens=one["tokens"], ignore_eos=True, detokenize=False, **chosen)
            engine.add_request(
                one["id"], {"prompt_token_ids": prompts[one["id"]]}, sampling, lora_request=next(adapted)
            )

    add_due()
    # All ranks ask at each turn, and so agree whether to go on.
    while engine.has_unfinished_requests() or (alone and waiting):
        for output in engine.step():
            if output.finished:
                answers[output.request_id] = [list(one.token_ids) for one in output.outputs]
        steps += 1
        engine.abort_request([one["id"] for one in asked if one["abort_at"] == steps])
        add_due()
        report(step=steps)
    return answers


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    given = job["engine"]
    os.environ.update(given["environment"])
    from rank import Reporter, _hand_drafts_over, _wait_for_everyone  # of tests/smoke

    with Path(job["progress"]).open("w") as stream:
        report = Reporter(stream)
        started = time.monotonic()
        import tokenless
        from kv_probe import KvProbe
        from vllm import LLM
        from vllm_ascend.utils import enable_custom_op

        # A compiler cannot trace an import that fails, and with float16 the model asks for the kernels, which the
        # stand-in has not: so they are asked for before.
        enable_custom_op()
        KvProbe(report).install()
        engine = LLM(**given["llm"]).llm_engine
        tokenless.accept(engine)
        _hand_drafts_over(engine.engine_core.engine_core)
        report(ready=time.monotonic() - started, pid=os.getpid())
        report(begin=time.time())
        asked = given["asked"][int(os.environ["VLLM_DP_RANK"])]
        answers = _serve(engine, asked, job["adapters"], len(given["asked"]) == 1, report)
        report(answers=answers)
        report(done=True, peak_rss_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        _wait_for_everyone(job["everyone"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
