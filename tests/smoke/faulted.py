# SPDX-License-Identifier: Apache-2.0
"""rank.py as vLLM's own engine process, in which rank 1 strays in rounds that are named after how: see faults.py.

vLLM's processes end where the ranks cannot go on; those of a user, which rank.py plays otherwise, do not.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import rank

_STRAYS_AT = 6  # step of the round
_ONE_RANK = 1


def write_profile(_worker: Any, seconds: float) -> None:
    """Something that a worker does between two steps, such as the files of a profiler."""
    time.sleep(seconds)


def call(engine: Any, seconds: float) -> None:
    engine.model_executor.collective_rpc(write_profile, args=(seconds,))


def profile(engine: Any, seconds: float) -> None:
    """Stop a profiler that has much to write."""
    worker = _worker(engine)
    worker.profiler_config = SimpleNamespace(profiler="torch")  # of later releases, which ask for it
    worker.profiler = SimpleNamespace(start=lambda: None, stop=lambda: time.sleep(seconds))
    engine.start_profile()
    engine.stop_profile()


def add_lora(engine: Any, seconds: float) -> None:
    """Add an adapter whose weights take long to read."""
    from vllm.lora.request import LoRARequest

    _worker(engine).model_runner.lora_manager = SimpleNamespace(add_adapter=lambda _: time.sleep(seconds) or True)
    engine.add_lora(LoRARequest("slow", 1, "slow"))


def forward(engine: Any, seconds: float) -> None:
    """A forward pass that takes that long on this rank."""
    once(engine, lambda: time.sleep(seconds))


def stop(_engine: Any, _seconds: float) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def collective(engine: Any, _seconds: float) -> None:
    """In the middle of a forward pass, a collective that the other ranks have not."""
    import torch
    from vllm.distributed import get_world_group

    once(engine, lambda: torch.distributed.all_reduce(torch.zeros(3), group=get_world_group().cpu_group))


def broadcast(engine: Any, _seconds: float) -> None:
    """On the DP group, where the other ranks gather."""
    import torch
    from vllm.distributed import get_dp_group

    group = get_dp_group()
    tensor = torch.zeros(3, device=group.device)
    once(engine, lambda: torch.distributed.broadcast(tensor, src=group.ranks[0], group=group.device_group))


def passes(engine: Any, _seconds: float) -> None:
    """One pass through the model more than the other ranks, as of a drafter."""
    _worker(engine).model_runner._dummy_run(1)


def once(engine: Any, what: Callable[[], object]) -> None:
    """``what`` in this rank's next forward pass."""

    def hook(*_: Any) -> None:
        handle.remove()
        what()

    handle = _worker(engine).model_runner.model.register_forward_pre_hook(hook)


def _worker(engine: Any) -> Any:
    return engine.model_executor.driver_worker.worker


STRAYS = {strays.__name__: strays for strays in (call, profile, add_lora, forward, stop, collective, broadcast, passes)}


def serve(engine: Any, turn: dict[str, Any], job: dict[str, Any], report: rank.Reporter) -> None:
    """The round, in which this rank may stray before one of its steps."""
    strays, step, steps = STRAYS.get(turn["name"]), engine.step, 0

    def straying() -> Any:
        nonlocal steps
        steps += 1
        if steps == _STRAYS_AT and strays is not None and int(os.environ["VLLM_DP_RANK"]) == _ONE_RANK:
            report(strays=turn["name"])
            strays(engine, job["stray_seconds"])
        return step()

    engine.step = straying
    try:
        rank.run_round(engine, turn, job, report)
    finally:
        engine.step = step


def main(job_file: str) -> None:
    multiprocessing.current_process().name = f"EngineCore_{os.environ['VLLM_DP_RANK']}"
    rank.main(job_file, serve)


if __name__ == "__main__":
    main(sys.argv[1])
