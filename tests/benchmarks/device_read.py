# SPDX-License-Identifier: Apache-2.0
"""What the metadata of a step costs the host while the device still works: a read of the device waits for its queue.

``python device_read.py --device cuda --least 30 --out FILE`` with the patched tree on PYTHONPATH. One rank in a
group of its own, so that no other rank is waited for, reduces as many words as ``RANKS`` ranks would tell each other:
upstream's way is an int32 for each rank and two flags, reduced on the device and read five times; ours is the
overlay's synchronizer on either group. Elapsed time of the host, from a device whose queue has been filled for so many
milliseconds; a CPU has no queue, and is good for a test of this script alone.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist

from selftest.bench.pairs import Pair, Row, compared, drawn

RANKS, MAX_NUM_TOKENS, TOKENS = 16, 8192, 64
QUEUES_MS = (0, 2, 10)
QUESTION = "A step's metadata on a device whose queue is long"
UPSTREAM = "as upstream's: {0} words on the device, 5 reads"
ROWS_OF_WORK = 2048

Step = Callable[[], object]


class Queue:
    """Work for a device, of about as many milliseconds as are asked for."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        size = ROWS_OF_WORK if self._cuda else 8
        self._rows, self._out = torch.ones(size, size, device=device), torch.empty(size, size, device=device)
        self._product_ms = self._measured(200)

    def _measured(self, products: int) -> float:
        self._multiply(products)
        self.drain()
        begin = time.perf_counter()
        self._multiply(products)
        self.drain()
        return 1e3 * (time.perf_counter() - begin) / products

    def _multiply(self, products: int) -> None:
        for _ in range(products):
            torch.mm(self._rows, self._rows, out=self._out)

    def fill(self, milliseconds: float) -> None:
        """Returns at once, where the device has a queue."""
        self._multiply(round(milliseconds / self._product_ms))

    def drain(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


def upstreams(device: torch.device) -> Step:
    """The collective and the reads of vllm-ascend 0.10.1rc1, as D13 describes them."""

    def step() -> object:
        told = torch.zeros(RANKS + 2, dtype=torch.int32)
        told[0] = TOKENS
        told = told.to(device)
        dist.all_reduce(told)
        across, prefill, dbo = told[:-2], told[-2], told[-1]
        most = int(across.max().item())
        flags = bool(prefill), bool(dbo)
        return most, flags, bool((across[0] == TOKENS).item()), int(across.max().item())

    return step


def ours(device: torch.device | None) -> Step:
    """One all-reduce by the overlay: on the device, with one read, or on the host, with none."""
    from vllm_ascend.data_parallel.metadata import LocalBatch
    from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

    world = dist.group.WORLD
    assert world is not None
    group = world if device is not None else dist.new_group([0], backend="gloo")
    synchronizer = MetadataSynchronizer(0, RANKS, MAX_NUM_TOKENS, group, device)
    return lambda: synchronizer.issue(LocalBatch(TOKENS, False)).result()


def rows(device: torch.device, least: int) -> list[Row]:
    """A row for each length of the queue and each group."""
    queue, baseline = Queue(device), upstreams(device)

    def us(step: Step, queued_ms: float) -> float:
        queue.drain()
        queue.fill(queued_ms)
        begin = time.perf_counter()
        step()
        return 1e6 * (time.perf_counter() - begin)

    def of(group: str, step: Step, queued_ms: float) -> Row:
        def pair() -> Pair:
            return us(baseline, queued_ms), us(step, queued_ms)

        pair()  # warms up
        name = f"{group}, {queued_ms} ms of work in the queue (us)"
        return drawn(pair, lambda pairs: compared(QUESTION, name, UPSTREAM.format(RANKS + 2), pairs, 1.0), least)

    groups = {"device group": ours(device), "CPU group": ours(None)}
    return [of(group, step, queued_ms) for group, step in groups.items() for queued_ms in QUEUES_MS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, required=True)
    parser.add_argument("--least", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: list[Row] = []
    notes = []
    if given.device.type == "cuda" and not torch.cuda.is_available():
        notes.append("DEVICE=cuda: skipped, torch sees no CUDA device here.")
    else:
        backend = "nccl" if given.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        found = rows(given.device, given.least)
        dist.destroy_process_group()
    given.out.write_text(json.dumps({"rows": [asdict(row) for row in found], "notes": notes}, indent=1))


if __name__ == "__main__":
    main()
