# SPDX-License-Identifier: Apache-2.0
"""The DP metadata of one step: upstream's synchronisation against the overlay's, in the same processes.

``python metadata_sync.py --overlay DIR --ranks 2 4 --out FILE`` with the pristine tree, vLLM and the
NPU's stand-in on PYTHONPATH. Both sides do all that a step does with the metadata: synchronise, make
vLLM's DPMetadata from it, and read the maximum for the forward context.

Blocks of steps of the two sides alternate, and each pair of blocks gives one ratio, so that what else
the machine does falls on both. gloo on loopback is no HCCL, and its time is mostly waiting for another
process to be scheduled; what the patches change shows in the CPU time of the thread that serves ("host").
Elapsed time at DP 4 also has gloo's cost per element of a short vector in it: a bare all-reduce of
7 int32 (the patched length) takes longer there than one of 6 (upstream's), without any of this code.
The reads of the device, which cost nothing here and a stall on an NPU, are counted by the trace of a
second run.
"""

import argparse
import importlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils._python_dispatch import TorchDispatchMode
from torch_npu import trace
from vllm.distributed import parallel_state
from vllm.forward_context import DPMetadata

import vllm_ascend

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "smoke"))
import steptrace

Step = Callable[[int], int]
"""Synchronises one step with this many local tokens; the maximum over the ranks."""

WARM_UP = 30


def pristine_step(rank: int, size: int) -> Step:
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    config = SimpleNamespace(model_config=SimpleNamespace(enforce_eager=False))
    runner: Any = SimpleNamespace(dp_rank=rank, dp_size=size, vllm_config=config)

    def step(tokens: int) -> int:
        padded, across, _, _ = NPUModelRunner._sync_metadata_across_dp(runner, tokens, False, False)
        return _use(padded, across, rank, size)

    return step


def patched_step(rank: int, size: int) -> Step:
    from vllm_ascend.data_parallel.metadata import LocalBatch
    from vllm_ascend.data_parallel.plan import StepPlan
    from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

    group = parallel_state.get_dp_group().device_group
    synchronizer = MetadataSynchronizer(rank, size, group, torch.device("npu"))

    def step(tokens: int) -> int:
        metadata = synchronizer.issue(LocalBatch(tokens, False)).result()
        plan = StepPlan(metadata, rank, metadata.max_num_tokens)
        return _use(plan.num_input_tokens, plan.num_tokens_across_dp, rank, size)

    return step


def _use(padded: int, across: Any, rank: int, size: int) -> int:
    """What vLLM and the forward context do with it."""
    parallel: Any = SimpleNamespace(data_parallel_size=size, data_parallel_rank=rank)
    metadata = DPMetadata.make(parallel, None, padded, across)
    return int(metadata.max_tokens_across_dp_cpu.item())


class _TensorCount(TorchDispatchMode):
    """Counts the operations that make a tensor with memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [one.alias_info for one in func._schema.returns]
        self.made += sum(alias is None for alias in aliases) if isinstance(result, torch.Tensor) else 0
        return result


def serve(rank: int, size: int, port: int, given: argparse.Namespace, part: Path) -> None:
    """The body of one rank: meets the others, then measures or, in a traced run, makes one step of each side."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    group = dist.new_group(list(range(size)), backend="gloo")
    dp_group: Any = SimpleNamespace(device_group=group, cpu_group=group, world_size=size, rank_in_group=rank)
    parallel_state._DP = dp_group
    if trace.enabled():
        trace.start()
    sides = {"pristine": pristine_step(rank, size), "patched": patched_step(rank, size)}
    for name, step in sides.items():
        assert step(rank + 1) == size, name
        if trace.enabled():
            with trace.step(name):
                step(5)
    if not trace.enabled():
        result = measure(sides, given.blocks, given.steps)
        if rank == 0:
            part.write_text(json.dumps(result))
    dist.barrier()
    os._exit(0)


def measure(sides: Mapping[str, Step], blocks: int, steps: int) -> dict[str, Any]:
    """Times alternating blocks of steps; median microseconds of a step, ratios of the pairs, tensors made."""
    for step in sides.values():
        _seconds(step, WARM_UP)
    pairs = [{name: _seconds(step, steps) for name, step in sides.items()} for _ in range(blocks)]
    found: dict[str, Any] = {"tensors": {name: _tensors_made(step) for name, step in sides.items()}}
    for number, clock in enumerate(("wall", "host")):
        quarters = statistics.quantiles((pair["patched"][number] / pair["pristine"][number] for pair in pairs), n=4)
        found[clock] = {
            **{name: 1e6 * statistics.median(pair[name][number] for pair in pairs) / steps for name in sides},
            "ratio": quarters[1],
            "quartiles": [quarters[0], quarters[2]],
        }
    return found


def _seconds(step: Step, steps: int) -> tuple[float, float]:
    """Wall-clock time, and CPU time of this thread, of a block of steps."""
    dist.barrier()
    wall, host = time.perf_counter(), time.thread_time()
    for number in range(steps):
        step(1 + number % 7)
    return time.perf_counter() - wall, time.thread_time() - host


def _tensors_made(step: Step) -> int:
    with _TensorCount() as count:
        step(3)
    return count.made


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overlay", type=Path, required=True)
    parser.add_argument("--ranks", type=int, nargs="+", required=True)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    # The overlay's own modules beside the pristine ones: both sides share every other module.
    vllm_ascend.__path__.append(str(given.overlay / "vllm_ascend"))
    for name in ("data_parallel.synchronizer", "worker.model_runner_v1"):
        importlib.import_module(f"vllm_ascend.{name}")  # once, before the fork

    found = {}
    for size in given.ranks:
        part = given.out.with_suffix(f".{size}")
        arguments = (size, _free_port(), given, part)
        mp.start_processes(serve, arguments, nprocs=size, start_method="fork")
        if not trace.enabled():
            found[str(size)] = json.loads(part.read_text()) | {"reads": device_reads(size, given)}
            part.unlink()
    given.out.write_text(json.dumps(found, indent=2) + "\n")


def device_reads(size: int, given: argparse.Namespace) -> dict[str, int]:
    """Blocking reads of the device in one step of each side, from a traced run of this script."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--overlay", str(given.overlay), "--ranks", str(size)]
        environment = os.environ | {"STANDIN_TRACE": folder}
        subprocess.run([*command, "--out", f"{folder}/none"], env=environment, check=True, timeout=120)
        traces = [file.read_text().splitlines() for file in Path(folder).glob("*.jsonl")]
    steps = [step for lines in traces for step in steptrace.steps(map(json.loads, lines))]
    assert len(steps) == 2 * size
    return {step.what: len(step.reads) for step in steps}


if __name__ == "__main__":
    main()
