# SPDX-License-Identifier: Apache-2.0
"""The one collective of a data-parallel step: issued as soon as the batch is known, awaited where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Optional

import torch
import torch.distributed as dist

from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata, packed_size


@dataclass
class PendingStep:
    """A step whose metadata is on its way, or already ``known`` where there is one rank."""

    known: Optional[StepMetadata] = None
    packed: Optional[torch.Tensor] = None
    work: Optional[dist.Work] = None

    def result(self, timeout: Optional[timedelta] = None) -> StepMetadata:
        """Wait for the collective, and read it with one blocking read of the packed tensor.

        ``timeout`` is for the CPU group; a device group's wait does not end before its queue is read. Raises
        ``TimeoutError`` after it.
        """
        if self.known is None:
            assert self.packed is not None and self.work is not None
            if timeout is None:
                self.work.wait()
            else:
                self._wait_for(self.work, timeout)
            self.known = StepMetadata.unpack(self.packed.tolist())
        return self.known

    @staticmethod
    def _wait_for(work: dist.Work, timeout: timedelta) -> None:
        try:
            work.wait(timeout)
        except RuntimeError as error:
            if work.is_completed():  # with an error of its own, such as a lost connection
                raise
            seconds = timeout.total_seconds()
            raise TimeoutError(f"the other data-parallel ranks' batches did not come within {seconds:g} s") from error


class MetadataSynchronizer:
    """Issues the one metadata all-reduce of a step, from buffers that are allocated once.

    ``process_group`` is one of the DP group's two backends; ``device`` is where its tensors live, None for the host.
    """

    def __init__(
        self,
        dp_rank: int,
        dp_size: int,
        process_group: dist.ProcessGroup,
        device: Optional[torch.device],
    ) -> None:
        self.dp_rank = dp_rank
        self.dp_size = dp_size
        self.process_group = process_group
        # int32[dp_size + 3]: filled on the host, reduced where the group's backend wants it.
        size = packed_size(dp_size)
        self._host = torch.zeros(size, dtype=torch.int32, device="cpu", pin_memory=device is not None)
        self._host_view = self._host.numpy()
        self._reduced = self._host if device is None else torch.zeros(size, dtype=torch.int32, device=device)
        self._pending: Optional[PendingStep] = None

    def issue(self, batch: LocalBatch) -> PendingStep:
        """Start the all-reduce of ``batch`` and return at once.

        Raises ``RuntimeError`` while an earlier step is not awaited, because it still owns the buffers.
        """
        if self._pending is not None and self._pending.known is None:
            raise RuntimeError("a data-parallel step was issued before the last one was awaited")
        self._host_view[:] = batch.pack(self.dp_rank, self.dp_size)
        if self._reduced is not self._host:
            self._reduced.copy_(self._host, non_blocking=True)
        work = dist.all_reduce(self._reduced, group=self.process_group, async_op=True)
        self._pending = PendingStep(packed=self._reduced, work=work)
        return self._pending
