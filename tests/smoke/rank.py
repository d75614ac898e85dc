# SPDX-License-Identifier: Apache-2.0
"""One data-parallel rank of one engine run: ``python rank.py <job.json>``, or forked by the fork server.

Answers with JSON lines in the job's ``progress`` file:

- ``{"ready": seconds, "mc2_mask": rows}`` once the engine has started, with the length of the MC2 mask; where each step
  makes a mask of its own, the most rows that the runner lets MC2 run on, null where it does not say;
- ``{"step": n, "at": monotonic seconds, "cpu": seconds}`` after each engine step, the sign of life that the driver
  watches; ``cpu`` is the CPU time of the process;
- ``{"round": name, "begin": t}`` and ``{"round": name, "end": t, "tokens": {prompt: ids}}``, where the job asks for
  them with the ``prompt_logprobs`` of each prompt's tokens but the first;
- ``{"forward": round, "with_prefill": bool, "attention": state, "padded": tokens, "rows": n, "graph": mode}`` for each
  forward pass of the model; ``attention`` is null where a dummy batch builds no metadata, ``padded`` is the largest
  number of rows of any rank, ``rows`` this one's;
- ``{"dummy": round, "changed": n}`` for each step that stands for no request: see kv_probe.py;
- ``{"moe": .., ..}`` for each mixture-of-experts layer where the job asks for it: see moe_probe.py;
- ``{"done": true, "peak_rss_kib": n}``.
"""

import functools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import tokenless
from kv_probe import KvProbe

_POLL = 0.02


class Reporter:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, **line: Any) -> None:
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()


class ForwardProbe:
    """Reports, for every forward pass of the model, what the rank decided about it; also for one that a graph holds."""

    def __init__(self, runner: Any, graph_sizes: tuple[int, ...], report: Reporter) -> None:
        self._report, self._graph_sizes = report, graph_sizes
        self._round = "start"
        if hasattr(runner, "_model_forward"):
            runner._model_forward = self._told(runner._model_forward)
        else:
            runner.model.register_forward_pre_hook(self._before, with_kwargs=True)

    def enter(self, name: str) -> None:
        self._round = name

    def _told(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(rows: int, *arguments: Any, **named: Any) -> Any:
            self._tell(rows)
            return forward(rows, *arguments, **named)

        return call

    def _before(self, _module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        import torch

        if not torch.compiler.is_compiling():
            self._tell(named["positions"].shape[-1])

    def _tell(self, rows: int) -> None:
        from vllm.forward_context import get_forward_context

        context = get_forward_context()
        metadata = context.attn_metadata
        if isinstance(metadata, dict):
            metadata = next(iter(metadata.values()), None)
        state = getattr(metadata, "attn_state", None)
        # Only what is on the host already: a read of the device here would show in the trace.
        self._report(
            forward=self._round,
            with_prefill=getattr(context, "with_prefill", None),
            attention=None if state is None else state.name,
            padded=context.padded_num_tokens,
            rows=rows,
            graph=self._graph(context, rows),
        )

    def _graph(self, context: Any, rows: int) -> str:
        """The graph mode; vLLM 0.10.0 has none, and its graphs are found by their rows unless a step says otherwise."""
        mode = getattr(context, "cudagraph_runtime_mode", None)
        if mode is not None:
            return str(mode.name)
        return "PIECEWISE" if rows in self._graph_sizes and not context.skip_cuda_graphs else "NONE"


def _graph_sizes(config: Any) -> tuple[int, ...]:
    """Rows for which the engine captures graphs."""
    import vllm.config

    if not hasattr(vllm.config, "CompilationLevel"):
        return ()  # a later release, whose forward context names the mode
    captures = config.compilation_config.level == vllm.config.CompilationLevel.PIECEWISE
    return tuple(config.compilation_config.cudagraph_capture_sizes) if captures else ()


def _mc2_rows(runner: Any) -> int | None:
    mask = getattr(runner, "reserved_mc2_mask", None)
    return getattr(runner, "mc2_tokens_capacity", None) if mask is None else len(mask)


def _hand_drafts_over(core: Any) -> None:
    """Let the scheduler see what was drafted, as vLLM's own engine process does; from 0.10.2 on its in-process client,
    which the ranks run, leaves that out."""
    if not hasattr(core, "post_step"):
        return

    def handing_over(step: Any) -> Any:
        def call() -> Any:
            outputs, executed = step()
            core.post_step(executed)
            return outputs, executed

        return call

    for name in ("step", "step_fn"):
        if hasattr(core, name):
            setattr(core, name, handing_over(getattr(core, name)))


def _prompt_logprobs(output: Any) -> list[float]:
    """The logprob of each token of a finished request's prompt, but of the first, which nothing predicts."""
    ids = output.prompt_token_ids[1:]
    return [float(found[token].logprob) for token, found in zip(ids, output.prompt_logprobs[1:], strict=True)]


def ask(engine: Any, name: str, prompts: dict[Any, list[int]], limit: int, **more: Any) -> None:
    """Send the engine requests of the round ``name``, each for ``limit`` greedy tokens; ``more`` for SamplingParams."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0.0, max_tokens=limit, ignore_eos=True, detokenize=False, **more)
    for index, ids in prompts.items():
        engine.add_request(f"{name}/{index}", {"prompt_token_ids": ids}, sampling)


def _ask_with_logprobs(engine: Any, name: str, prompts: dict[Any, list[int]], limit: int, report: Reporter) -> None:
    """Asks for the logprobs of the prompts too, and without them where that is refused."""
    try:
        ask(engine, name, prompts, limit, prompt_logprobs=0)
    except ValueError as error:
        report(refused=str(error))
        ask(engine, name, prompts, limit)


def run_round(engine: Any, turn: dict[str, Any], job: dict[str, Any], report: Reporter) -> None:
    asked = job["prompt_logprobs"]
    asking: Any = functools.partial(_ask_with_logprobs, report=report) if asked else ask
    name = turn["name"]
    report(round=name, begin=time.time(), begin_monotonic=time.monotonic())
    asking(engine, name, turn["prompts"], job["new_tokens"])
    tokens: dict[int, list[int]] = {}
    logprobs: dict[int, list[float]] = {}
    steps = 0
    # Agreed by all ranks at each turn: a rank that has finished goes on with dummy batches.
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                index = int(output.request_id.rpartition("/")[2])
                tokens[index] = list(output.outputs[0].token_ids)
                if output.prompt_logprobs is not None:
                    logprobs[index] = _prompt_logprobs(output)
        steps += 1
        if steps == job["late_steps"]:
            asking(engine, name, turn["late"], job["new_tokens"])
        report(step=steps, at=time.monotonic(), cpu=time.process_time())
    of_prompts = {"prompt_logprobs": logprobs} if asked else {}
    report(round=name, end=time.time(), end_monotonic=time.monotonic(), steps=steps, tokens=tokens, **of_prompts)


def _wait_for_everyone(progress: list[str]) -> None:
    """A peer that still waits in a collective would fail with the end of this process. The driver ends all that is left
    where one of them has failed."""
    while not all('"done"' in Path(file).read_text() for file in progress):
        time.sleep(_POLL)


def main(job_file: str, serve: Callable[..., None] = run_round) -> None:
    job = json.loads(Path(job_file).read_text())
    with Path(job["progress"]).open("w") as stream:
        report = Reporter(stream)
        started = time.monotonic()
        from vllm import LLM

        written = KvProbe(report)
        written.install()
        if job["moe_probe"]:
            import moe_probe

            moe_probe.install(report)
        engine = LLM(**job["engine"]).llm_engine
        tokenless.accept(engine)
        _hand_drafts_over(engine.engine_core.engine_core)
        probes, about = [written], {}
        if driver := getattr(engine.model_executor, "driver_worker", None):  # else in processes of their own
            runner = driver.worker.model_runner
            probes.append(ForwardProbe(runner, _graph_sizes(runner.vllm_config), report))
            about = {"mc2_mask": _mc2_rows(runner)}
        report(ready=time.monotonic() - started, pid=os.getpid(), **about)
        for turn in job["rounds"]:
            for probe in probes:
                probe.enter(turn["name"])
            serve(engine, turn, job, report)
        report(done=True, peak_rss_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        _wait_for_everyone(job["everyone"])
    # Tearing down process groups is not what is tested, and may wait for a peer that has gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
