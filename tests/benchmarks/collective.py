# SPDX-License-Identifier: Apache-2.0
"""The metadata of a step over gloo: against the limit, which is a bare all-reduce of one word, and against upstream's.

``python collective.py --overlay DIR --ranks 2 4 --least 30 --most 120 --out FILE`` with the pristine tree, vLLM and the
NPU's stand-in on PYTHONPATH; all sides in the same processes, one for each rank. Against the limit a side synchronises,
and no more. Against upstream it does all that a step does with the metadata: make vLLM's DPMetadata, too, and read the
maximum for the forward context, for which upstream reads the device. Blocks of steps of the sides take turns, and each
turn gives one pair of each comparison. Elapsed time, as the limit is a wait.
"""

import argparse
import importlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from vllm.distributed import parallel_state
from vllm.forward_context import DPMetadata

import vllm_ascend
from selftest.bench.pairs import Pair, Row, compared, enough

Step = Callable[[int], object]
"""Synchronises one step with this many local tokens."""

MAX_NUM_TOKENS = 8192
STEPS_OF_ALL_RANKS = 96  # of a block
_NOISY_BELOW = 8  # ranks: a step is short there, so that pairs differ more, and more of them are drawn in the same time
LIMIT, HIDDEN, UPSTREAM = "Against the limit", "What early issue hides", "Against upstream's synchronisation"
GROUPS = {"cpu": ("CPU group", torch.int64), "device": ("device group", torch.int32)}
MOST_OF_LIMIT, FIELD_BITS = 1.15, 16
WORD, WORDS = "a bare all-reduce of one word", "a bare all-reduce of as many words"
WHY = (
    "gloo sends each word of a short vector as a message of its own in each of its 2(n-1) rounds, so that a bare "
    "all-reduce of the 2 bytes a rank that the ranks have to tell costs as much; a bare all-gather of them costs more."
)
HOST = "With few ranks what is left is the host's part: packing and unpacking, two copies, and a Work to wait for."
BLOCKS_PER_REQUEST, BLOCK_SIZE = 64, 128


def pristine_step(rank: int, size: int) -> Step:
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    config = SimpleNamespace(model_config=SimpleNamespace(enforce_eager=False))
    runner: Any = SimpleNamespace(dp_rank=rank, dp_size=size, vllm_config=config)
    runner._get_forward_metadata_across_dp = lambda *told: NPUModelRunner._get_forward_metadata_across_dp(runner, *told)
    runner.torchair_graph_enabled = False
    name = "_sync_metadata_across_dp"
    sync = getattr(NPUModelRunner, name, None) or NPUModelRunner._get_forward_metadata_across_dp_and_pad

    def step(tokens: int) -> int:
        padded, across, _, _ = sync(runner, tokens, False, False)
        return use(padded, across, rank, size)

    return step


def patched_step(
    rank: int, size: int, group: str, *, between: Callable[[], object] | None = None, alone: bool = False
) -> Step:
    """``between`` is done while the step is on its way; a step returns the seconds of the wait after it.

    ``alone`` synchronises, and does nothing with what comes of it.
    """
    from vllm_ascend.data_parallel.metadata import LocalBatch
    from vllm_ascend.data_parallel.plan import StepPlan
    from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

    process_group = getattr(parallel_state.get_dp_group(), f"{group}_group")
    device = torch.device("npu") if group == "device" else None
    synchronizer = MetadataSynchronizer(rank, size, MAX_NUM_TOKENS, process_group, device)

    def step(tokens: int) -> float:
        pending = synchronizer.issue(LocalBatch(tokens, False))
        if between:
            between()
        begin = time.perf_counter()
        metadata = pending.result()
        waited = time.perf_counter() - begin
        if alone:
            return waited
        plan = StepPlan(metadata, rank, metadata.max_num_tokens)
        use(plan.num_input_tokens, plan.num_tokens_across_dp, rank, size)
        return waited

    return step


def of_words(bits: int, word: torch.dtype) -> Step:
    """A bare all-reduce of so many bits."""
    tensor = torch.zeros(ceil(bits / (8 * word.itemsize)), dtype=word)
    group = parallel_state.get_dp_group().cpu_group
    return lambda _: dist.all_reduce(tensor, group=group)


def gathered(size: int) -> Step:
    """A bare all-gather of the two bytes that a rank has to say."""
    own, group = torch.zeros(2, dtype=torch.uint8), parallel_state.get_dp_group().cpu_group
    every = [torch.zeros(2, dtype=torch.uint8) for _ in range(size)]
    return lambda _: dist.all_gather(every, own, group=group)


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


def use(padded: int, across: Any, rank: int, size: int) -> int:
    """What vLLM and the forward context do with it."""
    parallel: Any = SimpleNamespace(data_parallel_size=size, data_parallel_rank=rank)
    metadata = DPMetadata.make(parallel, None, padded, across)
    return int(metadata.max_tokens_across_dp_cpu.item())


def serve(rank: int, size: int, port: int, part: Path, least: int, most: int) -> None:
    """The body of one rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    group = dist.new_group(list(range(size)), backend="gloo")
    dp_group: Any = SimpleNamespace(device_group=group, cpu_group=group, world_size=size, rank_in_group=rank)
    parallel_state._DP = dp_group
    sides: dict[str, Step] = {
        "word": of_words(1, torch.int32),
        "pristine": pristine_step(rank, size),
        **{name: patched_step(rank, size, name) for name in GROUPS},
        **{f"{name} words": of_words(size * FIELD_BITS, word) for name, (_, word) in GROUPS.items()},
        **{f"{name} alone": patched_step(rank, size, name, alone=True) for name in GROUPS},
        "gathered": gathered(size),
        "after a decode": patched_step(rank, size, "cpu", between=Preparation(256, 1)),
    }
    rows, least_us = turns(sides, rank, size, least, most)
    if rank == 0:
        part.write_text(json.dumps({"rows": [asdict(row) for row in rows], "least": least_us}))
    dist.barrier()
    os._exit(0)


def turns(sides: Mapping[str, Step], rank: int, size: int, least: int, most: int) -> tuple[list[Row], dict[str, float]]:
    """The rows of one number of ranks, and the least microseconds of a step of each side, for the cost model."""
    steps = max(2, STEPS_OF_ALL_RANKS // size)
    taken: list[dict[str, float]] = []
    more = torch.ones(1)
    for step in sides.values():
        block(step, steps)
    names = list(sides)
    while more:
        names = names[1:] + names[:1]  # no side always comes after the same one
        turn: dict[str, float] = {}
        for name in names:
            turn[name], turn[f"{name} waits"] = block(sides[name], steps)
        taken.append(turn)
        if rank == 0:
            decided = [row for row in of_turns(taken, size) if row.target is not None]
            more[0] = len(taken) < least or not all(enough(row, least, most) for row in decided)
        dist.broadcast(more, 0)
    return of_turns(taken, size), {name: min(turn[name] for turn in taken) for name in sides}


def of_turns(taken: list[dict[str, float]], size: int) -> list[Row]:
    def pairs(baseline: str, ours: str) -> list[Pair]:
        return [(turn[baseline], turn[ours]) for turn in taken]

    rows = []
    for group, (named, _) in GROUPS.items():
        name = f"DP {size}, {named} (us)"
        rows.append(compared(LIMIT, name, WORD, pairs("word", f"{group} alone"), MOST_OF_LIMIT, WHY))
        rows.append(compared(LIMIT, name, WORDS, pairs(f"{group} words", f"{group} alone"), MOST_OF_LIMIT, HOST))
        rows.append(compared(UPSTREAM, name, "pristine", pairs("pristine", group), 1.0))
    rows.append(compared(LIMIT, f"DP {size}, a bare all-gather (us)", WORD, pairs("word", "gathered")))
    waits = pairs("cpu waits", "after a decode waits")
    rows.append(compared(HIDDEN, f"DP {size}, waiting after preparing a decode (us)", "waiting at once", waits))
    return rows


def block(step: Step, steps: int) -> tuple[float, float]:
    """Microseconds of a step, and of its wait."""
    dist.barrier()
    waited, begin = 0.0, time.perf_counter()
    for number in range(steps):
        said = step(1 + number % 7)
        waited += said if isinstance(said, float) else 0.0
    return 1e6 * (time.perf_counter() - begin) / steps, 1e6 * waited / steps


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlay", type=Path, required=True)
    parser.add_argument("--ranks", type=int, nargs="+", required=True)
    parser.add_argument("--least", type=int, required=True)
    parser.add_argument("--most", type=int, required=True, help="pairs; of fewer than 8 ranks up to four times as many")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    # The overlay's own modules beside the pristine ones: all sides share every other module.
    vllm_ascend.__path__.append(str(given.overlay / "vllm_ascend"))
    for name in ("data_parallel.synchronizer", "worker.model_runner_v1"):
        importlib.import_module(f"vllm_ascend.{name}")  # once, before the fork
    rows, steps = [], {}
    for size in given.ranks:
        part = given.out.with_suffix(f".{size}")
        arguments = (size, free_port(), part, given.least, given.most * max(1, _NOISY_BELOW // size))
        mp.start_processes(serve, arguments, nprocs=size, start_method="fork")
        found = json.loads(part.read_text())
        part.unlink()
        rows += found["rows"]
        steps[size] = found["least"]
    given.out.write_text(json.dumps({"rows": rows, "least": steps}, indent=1))


if __name__ == "__main__":
    main()
