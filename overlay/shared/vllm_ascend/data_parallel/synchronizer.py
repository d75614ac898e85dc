# SPDX-License-Identifier: Apache-2.0
"""The one collective of a data-parallel step: issued as soon as the batch is known, awaited where it is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Optional

import torch
import torch.distributed as dist

from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata, packed_size

GROUP_VARIABLE = "VLLM_ASCEND_DP_METADATA_GROUP"


class MetadataGroup(Enum):
    """Which of a DP group's two backends carries the metadata.

    The device group keeps the collective off the hosts' network: vllm-ascend#2582 measured about 10 % of the time per
    output token against gloo. The CPU group needs no device read, which pays where the device queue is long.
    """

    DEVICE = "device"
    CPU = "cpu"

    @classmethod
    def from_environment(cls) -> MetadataGroup:
        """The group that ``VLLM_ASCEND_DP_METADATA_GROUP`` names; ``device`` where it is unset.

        Raises ``ValueError`` that lists the allowed values.
        """
        value = os.environ.get(GROUP_VARIABLE, cls.DEVICE.value)
        try:
            return cls(value)
        except ValueError:
            allowed = ", ".join(member.value for member in cls)
            raise ValueError(f"{GROUP_VARIABLE}={value!r} is not one of: {allowed}") from None


@dataclass
class PendingStep:
    """A step whose metadata is on its way, or already ``known`` where there is one rank."""

    known: Optional[StepMetadata] = None
    packed: Optional[torch.Tensor] = None
    work: Optional[dist.Work] = None

    def result(self) -> StepMetadata:
        """Wait for the collective, and read it with one blocking read of the packed tensor."""
        if self.known is None:
            assert self.packed is not None and self.work is not None
            self.work.wait()
            self.known = StepMetadata.unpack(self.packed.tolist())
        return self.known


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
