# SPDX-License-Identifier: Apache-2.0
"""The DP metadata of one step: upstream's synchronisation against the overlay's, in the same processes.

``python metadata_sync.py --overlay DIR --ranks 2 4 --out FILE`` with the pristine tree, vLLM and the
NPU's stand-in on PYTHONPATH. Every side does all that a step does with the metadata: synchronise, make
vLLM's DPMetadata from it, and read the maximum for the forward context. "device" and "cpu" are the
overlay with either of its two groups; both are gloo here, which is no HCCL.

Blocks of steps of the sides take turns, and each turn gives one ratio, so that what else the machine
does falls on all. "wall" is elapsed time; "host" is the CPU time of the thread that serves, "process"
that of all threads of a rank, with gloo's own. The reads of the device, which cost nothing here and a
stall on an NPU, are counted by the trace of a second run.

"blocked" is what of it the rank spends waiting for the others: with nothing between issuing and
awaiting, and with the input preparation of a decode or a prefill there, as the runner has it. "word" is
a bare all-reduce of one word. "least" is elapsed time of the quickest turn, for the cost model.
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
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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

MAX_NUM_TOKENS = 8192
# Turns, and steps of a block, by the number of ranks: more ranks than cores are slow.
EFFORT = {2: (40, 50), 4: (40, 20), 8: (30, 8), 16: (24, 4), 32: (16, 3)}
CLOCKS = ("wall", "host", "process")
OVERLAY = ("device", "cpu")
BLOCKS_PER_REQUEST, BLOCK_SIZE = 64, 128


def pristine_step(rank: int, size: int) -> Step:
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    config = SimpleNamespace(model_config=SimpleNamespace(enforce_eager=False))
    runner: Any = SimpleNamespace(dp_rank=rank, dp_size=size, vllm_config=config)

    def step(tokens: int) -> int:
        padded, across, _, _ = NPUModelRunner._sync_metadata_across_dp(runner, tokens, False, False)
        return _use(padded, across, rank, size)

    return step


class Stopwatch:
    """Seconds spent in the blocks that it timed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begin


def patched_step(
    rank: int,
    size: int,
    group: str,
    between: Callable[[], object] = lambda: None,
    blocked: AbstractContextManager[None] = nullcontext(),  # noqa: B008
) -> Step:
    """``between`` is done while the step is on its way, ``blocked`` times the wait for it."""
    from vllm_ascend.data_parallel.metadata import LocalBatch
    from vllm_ascend.data_parallel.plan import StepPlan
    from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

    process_group = getattr(parallel_state.get_dp_group(), f"{group}_group")
    device = torch.device("npu") if group == "device" else None
    synchronizer = MetadataSynchronizer(rank, size, MAX_NUM_TOKENS, process_group, device)

    def step(tokens: int) -> int:
        pending = synchronizer.issue(LocalBatch(tokens, False))
        between()
        with blocked:
            metadata = pending.result()
        plan = StepPlan(metadata, rank, metadata.max_num_tokens)
        return _use(plan.num_input_tokens, plan.num_tokens_across_dp, rank, size)

    return step


def one_word() -> Step:
    """An all-reduce of one word and nothing else."""
    word, group = torch.zeros(1, dtype=torch.int32), parallel_state.get_dp_group().cpu_group

    def step(tokens: int) -> int:
        dist.all_reduce(word, group=group)
        return tokens

    return step


class Preparation:
    """The index arithmetic that a runner's input preparation does for ``requests`` of ``tokens`` tokens each."""

    def __init__(self, requests: int, tokens: int) -> None:
        self.requests, self.total = requests, requests * tokens
        self.scheduled = np.full(requests, tokens, dtype=np.int32)
        self.computed = np.arange(requests, dtype=np.int32)
        self.arange = np.arange(MAX_NUM_TOKENS, dtype=np.int32)
        self.block_table = torch.zeros(requests * BLOCKS_PER_REQUEST, dtype=torch.int32)
        self.slots = np.zeros(MAX_NUM_TOKENS, dtype=np.int32)

    def __call__(self) -> object:
        requests = np.repeat(self.arange[: self.requests], self.scheduled)
        ends = np.cumsum(self.scheduled)
        within = self.arange[: self.total] - np.repeat(ends - self.scheduled, self.scheduled)
        positions = self.computed[requests] + within
        blocks = self.block_table[requests * BLOCKS_PER_REQUEST + positions // BLOCK_SIZE].numpy()
        np.add(blocks * BLOCK_SIZE, positions % BLOCK_SIZE, out=self.slots[: self.total])
        return positions


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


def serve(rank: int, size: int, port: int, part: Path) -> None:
    """The body of one rank: meets the others, then measures or, in a traced run, makes one step of each side."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    group = dist.new_group(list(range(size)), backend="gloo")
    dp_group: Any = SimpleNamespace(device_group=group, cpu_group=group, world_size=size, rank_in_group=rank)
    parallel_state._DP = dp_group
    if trace.enabled():
        trace.start()
    sides = {"pristine": pristine_step(rank, size)} | {name: patched_step(rank, size, name) for name in OVERLAY}
    for name, step in sides.items():
        assert step(rank + 1) == size, name
        if trace.enabled():
            with trace.step(name):
                step(5)
    if not trace.enabled():
        result = measure(sides, rank, size)
        if rank == 0:
            part.write_text(json.dumps(result))
    dist.barrier()
    os._exit(0)


def measure(sides: Mapping[str, Step], rank: int, size: int) -> dict[str, Any]:
    """Times turns of blocks of steps, counts tensors; microseconds of a step, ratios to pristine of each turn."""
    turns, steps = EFFORT[size]
    preparations = {
        "nothing": lambda: None,
        "decode": Preparation(256, 1),
        "prefill": Preparation(2, MAX_NUM_TOKENS // 2),
    }
    watches = {what: Stopwatch() for what in preparations}
    blocks: dict[str, Step] = {
        **sides,
        "word": one_word(),
        **{what: patched_step(rank, size, "device", between, watches[what]) for what, between in preparations.items()},
    }
    for block in blocks.values():
        _times(block, max(3, 60 // size))
    names, taken, waits = list(blocks), [], []
    for _ in range(turns):
        names = names[1:] + names[:1]  # no side always comes after the same one
        before = {what: watch.seconds for what, watch in watches.items()}
        taken.append({name: _times(blocks[name], steps) for name in names})
        waits.append({what: watch.seconds - before[what] for what, watch in watches.items()})
    found: dict[str, Any] = {"turns": turns, "steps": steps}
    for number, clock in enumerate(CLOCKS):
        found[clock] = {
            name: 1e6 * statistics.median(turn[name][number] for turn in taken) / steps for name in (*sides, "word")
        }
        found[f"{clock} ratios"] = {
            name: statistics.quantiles((turn[name][number] / turn["pristine"][number] for turn in taken), n=4)
            for name in OVERLAY
        }
    found["least"] = {name: 1e6 * min(turn[name][0] for turn in taken) / steps for name in (*sides, "word")}
    found["blocked"] = {what: 1e6 * statistics.median(turn[what] for turn in waits) / steps for what in watches}
    found["blocked ratios"] = {
        what: statistics.quantiles((turn[what] / turn["nothing"] for turn in waits), n=4)
        for what in ("decode", "prefill")
    }
    found["tensors"] = {name: _tensors_made(step) for name, step in sides.items()}
    return found


def _times(step: Callable[[int], object], steps: int) -> tuple[float, float, float]:
    """Seconds of a block of steps by each of `CLOCKS`."""
    dist.barrier()
    before = time.perf_counter(), time.thread_time(), time.process_time()
    for number in range(steps):
        step(1 + number % 7)
    after = time.perf_counter(), time.thread_time(), time.process_time()
    return after[0] - before[0], after[1] - before[1], after[2] - before[2]


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlay", type=Path, required=True)
    parser.add_argument("--ranks", type=int, nargs="+", required=True, choices=EFFORT)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    # The overlay's own modules beside the pristine ones: all sides share every other module.
    vllm_ascend.__path__.append(str(given.overlay / "vllm_ascend"))
    for name in ("data_parallel.synchronizer", "worker.model_runner_v1"):
        importlib.import_module(f"vllm_ascend.{name}")  # once, before the fork
    from vllm_ascend.data_parallel.metadata import BitFields

    found = {}
    for size in given.ranks:
        part = given.out.with_suffix(f".{size}")
        arguments = (size, _free_port(), part)
        mp.start_processes(serve, arguments, nprocs=size, start_method="fork")
        if not trace.enabled():
            bits = BitFields(size, MAX_NUM_TOKENS).num_bits
            words = {"pristine": size + 2, "device": -(-bits // 32), "cpu": -(-bits // 64)}
            found[str(size)] = json.loads(part.read_text()) | {"words": words}
            part.unlink()
    if not trace.enabled():
        counts = counts_of_a_step(given)
        found = {size: one | counts for size, one in found.items()}
    given.out.write_text(json.dumps(found, indent=2) + "\n")


def counts_of_a_step(given: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Collectives, and blocking reads of the device, in one step of each side, from a traced run with two ranks."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--overlay", str(given.overlay), "--ranks", "2"]
        environment = os.environ | {"STANDIN_TRACE": folder}
        subprocess.run([*command, "--out", f"{folder}/none"], env=environment, check=True, timeout=600)
        traces = [file.read_text().splitlines() for file in Path(folder).glob("*.jsonl")]
    steps = [step for lines in traces for step in steptrace.steps(map(json.loads, lines))]
    assert len(steps) == 2 * (1 + len(OVERLAY))
    return {
        "reads": {step.what: len(step.reads) for step in steps},
        "collectives": {step.what: len(step.collectives) for step in steps},
    }


if __name__ == "__main__":
    main()
