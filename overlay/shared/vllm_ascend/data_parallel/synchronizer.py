# SPDX-License-Identifier: Apache-2.0
"""The one collective of a data-parallel step: issued as soon as the batch is known, awaited where it is needed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Callable, Optional

import torch
import torch.distributed as dist

from vllm_ascend.data_parallel.metadata import BitFields, LocalBatch, StepMetadata

# How often a wait of the CPU group is asked whether it goes on.
_LOOK = timedelta(seconds=1)


@dataclass
class PendingStep:
    """A step whose metadata is on its way, or already ``known`` where there is one rank."""

    known: Optional[StepMetadata] = None
    work: Optional[dist.Work] = None
    read: Optional[Callable[[], StepMetadata]] = None

    def result(self, given_up: Optional[Callable[[], Optional[str]]] = None) -> StepMetadata:
        """Wait for the collective, and read it with one blocking read.

        ``given_up`` says why the wait is to end, or None; it is for the CPU group, as a device group's wait does not
        end before its queue is read. Raises ``TimeoutError`` with what it says.
        """
        if self.known is None:
            assert self.work is not None and self.read is not None
            if given_up is None:
                self.work.wait()
            else:
                self._wait_for(self.work, given_up)
            self.known = self.read()
        return self.known

    @staticmethod
    def _wait_for(work: dist.Work, given_up: Callable[[], Optional[str]]) -> None:
        while True:
            try:
                work.wait(_LOOK)
                return
            except RuntimeError as error:
                if work.is_completed():  # since the wait ended, or with an error of its own, such as a lost connection
                    work.wait()
                    return
                if why := given_up():
                    raise TimeoutError(f"the other data-parallel ranks' batches did not come: {why}") from error


def word_for(device: Optional[torch.device], is_310p: bool) -> torch.dtype:
    """The widest word that an all-reduce on ``device`` takes in place; gloo's cost grows with the number of words.

    HCCL's has no int64 on every SoC. On a 310P upstream puts a function of its own in the place of
    torch.distributed.all_reduce (patch_distributed.py): of int64 tensors it returns a new one, and no work to wait for.
    """
    return torch.int64 if device is None and not is_310p else torch.int32


class MetadataSynchronizer:
    """Issues the one metadata all-reduce of a step, from buffers that are allocated once.

    ``process_group`` reduces tensors on ``device``, None for the host. ``max_num_tokens`` and ``max_prompt_rounds`` are
    the most that a rank can bring; ``whole_graphs`` is that of `BitFields`. On a 310P int64 has no all-reduce in place:
    see `word_for`.
    """

    def __init__(
        self,
        dp_rank: int,
        dp_size: int,
        max_num_tokens: int,
        process_group: dist.ProcessGroup,
        device: Optional[torch.device],
        max_prompt_rounds: int = 0,
        is_310p: bool = False,
        whole_graphs: bool = False,
    ) -> None:
        self.dp_rank = dp_rank
        self.process_group = process_group
        self.fields = BitFields(dp_size, max_num_tokens, max_prompt_rounds, whole_graphs)
        word = word_for(device, is_310p)
        words = -(-self.fields.num_bits // (8 * word.itemsize))
        # Filled and read on the host, reduced where the group's backend wants it.
        self._host = torch.zeros(words, dtype=word, device="cpu", pin_memory=device is not None)
        self._host_bytes = memoryview(self._host.numpy()).cast("B")
        self._reduced = self._host if device is None else torch.zeros(words, dtype=word, device=device)
        self._pending: Optional[PendingStep] = None

    def issue(self, batch: LocalBatch) -> PendingStep:
        """Start the all-reduce of ``batch`` and return at once.

        Raises ``RuntimeError`` while an earlier step is not awaited, because it still owns the buffers.
        """
        if self._pending is not None and self._pending.known is None:
            raise RuntimeError("a data-parallel step was issued before the last one was awaited")
        packed = self.fields.pack(batch, self.dp_rank)
        self._host_bytes[:] = packed.to_bytes(len(self._host_bytes), sys.byteorder)
        if self._reduced is not self._host:
            self._reduced.copy_(self._host, non_blocking=True)
        work = dist.all_reduce(self._reduced, group=self.process_group, async_op=True)
        self._pending = PendingStep(work=work, read=self._read)
        return self._pending

    def _read(self) -> StepMetadata:
        """The reduced metadata: one copy from the device, none where the host reduced it."""
        if self._reduced is not self._host:
            self._host.copy_(self._reduced)
        return self.fields.unpack(int.from_bytes(self._host_bytes, sys.byteorder))
