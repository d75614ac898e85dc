# SPDX-License-Identifier: Apache-2.0
"""The metadata collective over real gloo ranks: one all-reduce a step, one read, the same answer everywhere."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vllm_ascend.data_parallel import synchronizer
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer, PendingStep

STEPS = 25
MAX_NUM_TOKENS = 9000


def batch_of(rank: int, step: int) -> LocalBatch:
    """A batch that every process can compute for every rank."""
    draw = random.Random(1000 * step + rank)
    return LocalBatch(
        draw.randrange(1, MAX_NUM_TOKENS + 1), draw.random() < 0.3, draw.random() < 0.7, draw.random() < 0.7
    )


def as_on_a_310p() -> None:
    """Let upstream replace torch.distributed's collectives as it does there."""
    try:
        from vllm_ascend.patch.platform.patch_common import patch_distributed
    except ImportError:
        from vllm_ascend.patch.platform import patch_distributed
    patch_distributed.communication_adaptation_310p()


def run_rank(rank: int, dp_size: int, rendezvous: str, device: str | None, is_310p: bool) -> None:
    """Run the steps on one rank, and hold each against what all ranks brought."""
    if is_310p:
        as_on_a_310p()
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=dp_size)
    group = dist.group.WORLD
    assert group is not None
    where = torch.device(device) if device else None
    sync = MetadataSynchronizer(rank, dp_size, MAX_NUM_TOKENS, group, where, is_310p=is_310p)
    buffers = {sync._reduced.data_ptr(), sync._host.data_ptr()}
    for step in range(STEPS):
        with patch.object(synchronizer.dist, "all_reduce", wraps=dist.all_reduce) as all_reduce:
            metadata = sync.issue(batch_of(rank, step)).result()
        ranks = [batch_of(other, step) for other in range(dp_size)]
        assert metadata == StepMetadata(
            tuple(batch.num_tokens for batch in ranks),
            any(batch.with_prefill for batch in ranks),
            all(batch.enable_dbo for batch in ranks),
            all(batch.graph_usable for batch in ranks),
        )
        assert all_reduce.call_count == 1
        assert all_reduce.call_args.kwargs["async_op"] is True
        assert all_reduce.call_args.args[0].data_ptr() in buffers, "a step allocated a new buffer"
    dist.destroy_process_group()


@pytest.mark.parametrize("device", [None, "npu"], ids=["cpu-group", "device-group"])
@pytest.mark.parametrize(("dp_size", "is_310p"), [(2, False), (4, False), (2, True)])
def test_all_ranks_agree_with_one_all_reduce_a_step(
    tmp_path: Path, dp_size: int, is_310p: bool, device: str | None
) -> None:
    mp.start_processes(
        run_rank,
        args=(dp_size, str(tmp_path / "rendezvous"), device, is_310p),
        nprocs=dp_size,
        start_method="fork",
    )


class FinishedWork:
    """A collective that is done, on one rank."""

    def wait(self) -> bool:
        return True


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> MetadataSynchronizer:
    """A synchroniser of one rank whose all-reduce is the identity."""

    def all_reduce(tensor: torch.Tensor, **_: Any) -> FinishedWork:
        return FinishedWork()

    monkeypatch.setattr(synchronizer.dist, "all_reduce", all_reduce)
    return MetadataSynchronizer(0, 1, MAX_NUM_TOKENS, None, None)  # type: ignore[arg-type]


def test_the_result_is_read_once(single: MetadataSynchronizer) -> None:
    pending = single.issue(LocalBatch(5, True))
    first = pending.result()
    single.issue(LocalBatch(6, False)).result()
    assert pending.result() is first


def test_a_second_step_may_not_overwrite_a_pending_one(single: MetadataSynchronizer) -> None:
    single.issue(LocalBatch(5, True))
    with pytest.raises(RuntimeError, match="before the last one was awaited"):
        single.issue(LocalBatch(6, True))


def test_a_known_step_waits_for_nothing() -> None:
    known = LocalBatch(5, True).alone()
    assert PendingStep(known=known).result() is known


def run_beside_a_silent_rank(rank: int, rendezvous: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    group = dist.group.WORLD
    assert group is not None
    if rank == 0:
        pending = MetadataSynchronizer(rank, 2, MAX_NUM_TOKENS, group, None).issue(LocalBatch(5, True))
        looks = iter([None, "all wait in one collective"])
        with pytest.raises(TimeoutError, match="batches did not come: all wait in one collective"):
            pending.result(lambda: next(looks))
    Path(f"{rendezvous}.{rank}").touch()
    while not all(Path(f"{rendezvous}.{other}").exists() for other in range(2)):
        time.sleep(0.02)


def test_a_wait_that_is_given_up_ends(tmp_path: Path) -> None:
    mp.start_processes(run_beside_a_silent_rank, args=(str(tmp_path / "rendezvous"),), nprocs=2, start_method="fork")


def run_beside_a_rank_that_comes_late(rank: int, rendezvous: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    group = dist.group.WORLD
    assert group is not None
    looked = Path(f"{rendezvous}.looked")
    while rank == 1 and not looked.exists():
        time.sleep(0.02)
    pending = MetadataSynchronizer(rank, 2, MAX_NUM_TOKENS, group, None).issue(LocalBatch(5 + rank, True))
    assert pending.result(looked.touch).tokens_per_rank == (5, 6)


def test_a_wait_that_was_looked_at_goes_on(tmp_path: Path) -> None:
    rendezvous = str(tmp_path / "rendezvous")
    mp.start_processes(run_beside_a_rank_that_comes_late, args=(rendezvous,), nprocs=2, start_method="fork")


class LateWork:
    """A collective that ends just after a wait for it has."""

    def wait(self, timeout: timedelta | None = None) -> bool:
        if timeout is not None:
            raise RuntimeError("Operation timed out!")
        return True

    def is_completed(self) -> bool:
        return True


def test_what_comes_as_a_turn_ends_has_come() -> None:
    known = LocalBatch(5, True).alone()
    assert PendingStep(work=LateWork(), read=lambda: known).result(lambda: "given up") is known  # type: ignore[arg-type]


def run_beside_a_rank_that_leaves(rank: int, rendezvous: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    group = dist.group.WORLD
    assert group is not None
    if rank == 0:
        pending = MetadataSynchronizer(rank, 2, MAX_NUM_TOKENS, group, None).issue(LocalBatch(5, True))
        with pytest.raises(RuntimeError, match=r"closed|reset"):
            pending.result(lambda: None)


def test_a_wait_that_may_be_given_up_keeps_the_error_of_a_lost_rank(tmp_path: Path) -> None:
    rendezvous = str(tmp_path / "rendezvous")
    mp.start_processes(run_beside_a_rank_that_leaves, args=(rendezvous,), nprocs=2, start_method="fork")
