# SPDX-License-Identifier: Apache-2.0
"""rank.py, where rank 0 holds conversations of two turns: see conversations.py.

Its closing line has ``{"tokens": {turn: ids}, "cached": {turn: prompt tokens found in the prefix cache}}``; turns count
from 0 over all conversations.
"""

import sys
import time
from typing import Any

import rank

# Steps that rank 0 makes without a request before each turn: the others still decode.
_SILENCE = 2


def converse(engine: Any, turn: dict[str, Any], job: dict[str, Any], report: rank.Reporter) -> None:
    """One turn at a time, each as long as it should be, with silence before it."""
    prompts, name = job["turns"], turn["name"]
    report(round=name, begin=time.time(), begin_monotonic=time.monotonic())
    tokens: dict[int, list[int]] = {}
    cached: dict[int, int] = {}
    steps = asked = silent = 0
    while engine.has_unfinished_requests():
        if len(tokens) == asked < len(prompts):
            silent += 1
            if silent > _SILENCE:
                rank.ask(engine, name, {asked: prompts[asked]}, job["answers"][asked % 2])
                asked, silent = asked + 1, 0
        for output in engine.step():
            if output.finished:
                index = int(output.request_id.rpartition("/")[2])
                tokens[index] = list(output.outputs[0].token_ids)
                cached[index] = output.num_cached_tokens
        steps += 1
        report(step=steps, at=time.monotonic(), cpu=time.process_time())
    if len(tokens) < len(prompts):
        raise RuntimeError(f"the other ranks ended after {steps} steps, before turn {len(tokens)} of {len(prompts)}")
    end = {"end": time.time(), "end_monotonic": time.monotonic()}
    report(round=name, steps=steps, tokens=tokens, cached=cached, **end)


def serve(engine: Any, turn: dict[str, Any], job: dict[str, Any], report: rank.Reporter) -> None:
    (converse if "turns" in job else rank.run_round)(engine, turn, job, report)


def main(job_file: str) -> None:
    rank.main(job_file, serve)


if __name__ == "__main__":
    main(sys.argv[1])
