# SPDX-License-Identifier: Apache-2.0
"""One rank of the smoke run: the overlay's synchronisation, on this node's device, against what must come of it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from patchset.node.cluster import schedule
from patchset.node.cluster.schedule import Agreed, Schedule


@dataclass(frozen=True)
class Part:
    rank: int  # number of this rank
    schedule: Schedule  # the steps of all ranks
    store: tuple[str, int]  # host and port where the ranks meet
    on_npu: bool  # hccl on this process's NPU; otherwise gloo on the host
    group: str  # which backend carries the metadata, `device` or `cpu`, as VLLM_ASCEND_DP_METADATA_GROUP
    limit: float  # seconds that any one wait may take


class Rank:
    """A Ray actor; where its process runs is decided by whoever makes it."""

    def __init__(self) -> None:
        self._store: Any = None

    def open(self, limit: float) -> tuple[str, int]:
        """Makes this process the one where the ranks meet; its host and port, which the system chooses."""
        import ray
        from torch.distributed import TCPStore

        host = ray.util.get_node_ip_address()
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=limit))
        return host, self._store.port

    def run(self, part: Part) -> dict[str, Any]:
        """Meets the others and makes the steps; what came of them."""
        begun = time.perf_counter()
        synchronizer, device = self._join(part)
        joined = time.perf_counter() - begun
        seconds, came = [], []
        wrong = ""
        for step in range(part.schedule.steps):
            batches = part.schedule.batches(step)
            batch = _local_batch(batches[part.rank])
            begun = time.perf_counter()
            metadata = synchronizer.issue(batch).result()
            seconds.append(time.perf_counter() - begun)
            came.append(_plain(metadata))
            if not wrong and came[-1] != schedule.agreed(batches):
                wrong = f"step {step}: {came[-1]} instead of {schedule.agreed(batches)}"
        rest = seconds[1:] or seconds
        return {
            "device": device,
            "joined": joined,  # seconds until the process group was there, imports included
            "first": 1e3 * seconds[0],  # milliseconds of the first step, in which the backend connects
            "median": 1e6 * statistics.median(rest),  # microseconds, as the slowest
            "slowest": 1e6 * max(rest),
            "digest": schedule.digest(came),
            "wrong": wrong,  # the first step that came to something else than it must
        }

    def _join(self, part: Part) -> tuple[Any, str]:
        """The overlay's synchroniser on a process group of all ranks, and the name of device and backend."""
        import torch
        import torch.distributed as dist

        if part.on_npu:
            import torch_npu  # noqa: F401 - brings torch.npu and hccl, where torch has not loaded it itself

            torch.npu.set_device(_own_npu())
        from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

        limit = timedelta(seconds=part.limit)
        store = self._store or dist.TCPStore(*part.store, is_master=False, timeout=limit)
        backend = "hccl" if part.on_npu else "gloo"
        ranks = part.schedule.ranks
        dist.init_process_group(backend, store=store, rank=part.rank, world_size=ranks, timeout=limit)
        group, device = dist.group.WORLD, torch.device("npu") if part.on_npu else None
        if part.on_npu and part.group == "cpu":
            group, device, backend = dist.new_group(backend="gloo", timeout=limit), None, "gloo"
        name = f"{'npu' if part.on_npu else 'cpu'}, {backend}"
        return MetadataSynchronizer(part.rank, ranks, schedule.MAX_TOKENS, group, device), name


def _own_npu() -> int:
    """Which of the NPUs that this process sees Ray gave to it."""
    import ray

    given = ray.get_runtime_context().get_accelerator_ids().get("NPU") if ray.is_initialized() else None
    return npu_index(given or [], os.environ.get("ASCEND_RT_VISIBLE_DEVICES"))


def npu_index(given: Sequence[str], visible: str | None) -> int:
    """The index of the first device that Ray gave to this process, among the devices that the process sees.

    Ray shows a process its own devices alone, in ASCEND_RT_VISIBLE_DEVICES. Where
    RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES forbids it that, the process sees all that its node shows to Ray.

    >>> npu_index(["3"], "3"), npu_index(["3"], "2,3"), npu_index(["3"], None), npu_index([], None)
    (0, 1, 3, 0)
    """
    if not given:
        return 0
    return visible.split(",").index(given[0]) if visible else int(given[0])


def _local_batch(batch: schedule.Batch) -> Any:
    from vllm_ascend.data_parallel.metadata import LocalBatch

    tokens, with_prefill, enable_dbo, graph_usable = batch
    return LocalBatch(tokens, with_prefill=with_prefill, enable_dbo=enable_dbo, graph_usable=graph_usable)


def _plain(metadata: Any) -> Agreed:
    return metadata.tokens_per_rank, metadata.with_prefill, metadata.enable_dbo, metadata.graph_usable
