# SPDX-License-Identifier: Apache-2.0
"""One rank of an engine that serves a round whenever it is told to: the ``script`` of `output_tokens.py`'s engine runs.

Makes a pipe ``go`` in its folder, and answers each line that comes through it with a line of its progress:
``{"turn": n, "cpu": s, "wall": s}``, CPU time of the process and elapsed time of a decode step. Its first line is
``{"ready": seconds, "cpu": seconds}`` of the start, its last ``{"done": true, "peak_rss_kib": n}``.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import tokenless
from rank import Reporter, ask


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    os.mkfifo("go")
    (turn,) = job["rounds"]
    with Path(job["progress"]).open("w") as stream:
        report = Reporter(stream)
        began = time.monotonic()
        from vllm import LLM

        engine = LLM(**job["engine"]).llm_engine
        tokenless.accept(engine)
        report(ready=time.monotonic() - began, cpu=time.process_time())
        with Path("go").open() as told:
            for number, _ in enumerate(told):
                ask(engine, f"turn {number}", turn["prompts"], job["new_tokens"])
                engine.step()  # the prefill
                steps, cpu, wall = 0, time.process_time(), time.monotonic()
                while engine.has_unfinished_requests():
                    engine.step()
                    steps += 1
                cpu, wall = time.process_time() - cpu, time.monotonic() - wall
                report(turn=number, cpu=cpu / steps, wall=wall / steps)
        report(done=True, peak_rss_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    sys.stdout.flush()
    os._exit(0)
