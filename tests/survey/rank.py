# SPDX-License-Identifier: Apache-2.0
"""One rank of a deployment, forked by tests/smoke's fork server; reports as tests/smoke/rank.py does."""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from survey import pictures, pool, profiled

Say = Callable[..., None]


class Turn:
    """Serves one batch of a rank's requests; ``answers`` has what came of them, by request."""

    def __init__(self, engine: Any, given: dict[str, Any], adapters: list[str], report: Say) -> None:
        from vllm.lora.request import LoRARequest

        self.answers: dict[str, dict[str, Any]] = {}
        self._engine, self._given, self._report = engine, given, report
        self._expected = json.loads(Path(given["expected"]).read_text())
        self._prompts: dict[str, list[int]] = {}
        loaded = [LoRARequest(path, number + 1, path) for number, path in enumerate(adapters)]
        # In turn, and one without.
        self._adapted = itertools.cycle([*loaded, None])

    def serve_all(self, asked: list[dict[str, Any]], every: list[list[dict[str, Any]]]) -> None:
        """Phase after phase, each with what is called before it; ``every``: the requests of all ranks."""
        for phase, calls in enumerate(((), *self._given["between"])):
            for call in calls:
                self._call(call)
            # The step before which the last rank is told its last; all of them go on until then.
            until = max(one["at"] for of in every for one in of if one["phase"] == phase)
            self._serve([one for one in asked if one["phase"] == phase], until)

    def _call(self, name: str) -> None:
        if name == "sleep":  # as vllm.LLM does
            self._engine.reset_prefix_cache()
        getattr(self._engine, name)()

    def _serve(self, asked: list[dict[str, Any]], until: int) -> None:
        waiting, steps = list(asked), 0

        def act() -> None:
            self._engine.abort_request([one["id"] for one in asked if one["abort_at"] == steps])
            for one in [one for one in waiting if one["at"] <= steps]:
                waiting.remove(one)
                self._add(one)

        act()
        # All ranks ask at each turn, and so agree whether to go on.
        while self._engine.has_unfinished_requests() or steps < until:
            for output in self._engine.step():
                if output.finished:
                    self.answers[output.request_id] = _answer(output)
            steps += 1
            act()
            self._report(step=steps)

    def _add(self, one: dict[str, Any]) -> None:
        from vllm import PoolingParams

        before: list[int] = []
        if one["follows"] is not None:
            before = self._prompts[one["follows"]] + self.answers[one["follows"]]["choices"][0]["tokens"]
        prompt = self._prompts[one["id"]] = [*before, *one["prompt"]]
        given: dict[str, Any] = {"prompt_token_ids": prompt}
        if one["picture"] is not None:
            given["multi_modal_data"] = {"image": pictures.picture(one["picture"])}
        wanted = PoolingParams(task="embed") if self._given["embeds"] else self._tokens(one)
        self._engine.add_request(one["id"], given, wanted, lora_request=next(self._adapted))

    def _tokens(self, one: dict[str, Any]) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # Of several answers only a request that asks for its end alone is given all at once.
        chosen = {"temperature": 0.0, "output_kind": RequestOutputKind.FINAL_ONLY} | one["sampling"]
        if one["grammar"]:
            chosen |= _grammar(self._expected[one["id"]]["grammar"])
        return SamplingParams(max_tokens=one["tokens"], ignore_eos=True, detokenize=False, **chosen)


def _grammar(regex: str) -> dict[str, Any]:
    """What SamplingParams of this vLLM gets for it."""
    from vllm import sampling_params

    if hasattr(sampling_params, "StructuredOutputsParams"):
        return {"structured_outputs": sampling_params.StructuredOutputsParams(regex=regex)}
    return {"guided_decoding": sampling_params.GuidedDecodingParams(regex=regex)}


def _answer(output: Any) -> dict[str, Any]:
    """As `reading` takes it."""
    if hasattr(output.outputs, "data"):
        return {"vector": output.outputs.data.float().tolist()}
    choices = [
        {"tokens": list(one.token_ids), "top": [_largest(found) for found in one.logprobs or ()]}
        for one in output.outputs
    ]
    prompt = None
    if output.prompt_logprobs is not None:
        ids = output.prompt_token_ids[1:]
        prompt = [float(found[token].logprob) for token, found in zip(ids, output.prompt_logprobs[1:], strict=True)]
    return {"choices": choices, "prompt": prompt}


def _largest(found: dict[int, Any]) -> list[float]:
    return sorted((float(one.logprob) for one in found.values()), reverse=True)


def _step_as_a_process_of_its_own_does(core: Any, several_ranks: bool) -> None:
    """Where batches are queued (pipeline stages, asynchronous scheduling), vLLM's in-process client would not take them
    from the queue; and in a step without tokens (a grammar is compiled, a queue is full) it runs nothing that the other
    ranks could meet. Here each step does what the loop of vLLM's engine process does."""
    original = core.step if core.batch_queue is None else core.step_with_batch_queue

    def step() -> Any:
        outputs, executed = original()
        if not executed and several_ranks:
            core.execute_dummy_batch()
        return outputs or {}, executed

    core.step = core.step_fn = step


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    given = job["engine"]
    os.environ.update(given["environment"])
    from fork_server import die_with_parent
    from rank import Reporter, _hand_drafts_over, _wait_for_everyone  # of tests/smoke

    from survey.cost import Meter

    os.register_at_fork(after_in_child=die_with_parent)
    with Path(job["progress"]).open("w") as stream:
        report = Reporter(stream)
        meter, started = Meter.of(), time.monotonic()
        import tokenless
        from kv_probe import KvProbe
        from vllm import LLM
        from vllm_ascend.utils import enable_custom_op

        # A compiler cannot trace an import that fails, and with float16 the model asks for the kernels, which the
        # stand-in has not: so they are asked for before.
        enable_custom_op()
        if given["sleeps"]:
            pool.install()
        pictures.install()
        KvProbe(report).install()
        profiler = profiled.arguments("profile") if given["profiled"] else {}
        engine = LLM(**given["llm"], **profiler).llm_engine
        tokenless.accept(engine)
        core = engine.engine_core.engine_core
        _step_as_a_process_of_its_own_does(core, several_ranks=len(given["asked"]) > 1)
        _hand_drafts_over(core)
        report(ready=time.monotonic() - started, pid=os.getpid(), cpu=meter.cpu_seconds())
        report(begin=time.time())
        asked = given["asked"][int(os.environ["VLLM_DP_RANK"])]
        turn = Turn(engine, given, job["adapters"], report)
        turn.serve_all(asked, given["asked"])
        report(answers=turn.answers)
        report(done=True, grown_kib=meter.grown_kib())
        _wait_for_everyone(job["everyone"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
