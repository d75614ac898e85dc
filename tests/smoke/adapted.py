# SPDX-License-Identifier: Apache-2.0
"""rank.py with requests that ask for adapters in turn: see adapters.py."""

import itertools
import sys
from typing import Any

import rank


def serve(engine: Any, turn: dict[str, Any], job: dict[str, Any], report: rank.Reporter) -> None:
    from vllm.lora.request import LoRARequest

    choice = itertools.cycle(LoRARequest(path, number + 1, path) for number, path in enumerate(job["adapters"]))
    add = engine.add_request
    engine.add_request = lambda *request: add(*request, lora_request=next(choice))
    try:
        rank.run_round(engine, turn, job, report)
    finally:
        engine.add_request = add


def main(job_file: str) -> None:
    rank.main(job_file, serve)


if __name__ == "__main__":
    main(sys.argv[1])
