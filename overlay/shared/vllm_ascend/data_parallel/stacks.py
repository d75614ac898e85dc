# SPDX-License-Identifier: Apache-2.0
"""Where a thread is: the collective that it waits in, who called it, and its stack.

Read from the thread's Python frames when a rank gives up, so that it costs nothing before. A rank that waits for the
device inside a graph or a copy is in no collective; then the stack alone says where.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any, Optional, Sequence

import torch

METADATA_GROUP = "dp_metadata"
"""What torch.distributed calls the group that is for the metadata alone."""
_C10D = "torch.distributed.distributed_c10d"
# The layers that ask for a collective, and what lies between them and it.
_CALLERS = ("vllm_ascend.", "vllm.")
_PLUMBING = "vllm.distributed."
_TENSORS = ("input_tensor", "input", "tensor", "output")
_MOST_FRAMES = 40


@dataclass(frozen=True)
class StackTrace:
    """``op`` with its ``tensor`` (dtype and shape) and ``group`` are None outside of a collective.

    ``ranks`` is the first world rank of the group and their number, None where they are not known. ``at`` is the
    caller's line, and ``stack`` every frame's, innermost last.
    """

    at: str
    stack: tuple[str, ...]
    op: Optional[str] = None
    tensor: Optional[str] = None
    group: Optional[str] = None
    ranks: Optional[tuple[int, int]] = None

    @property
    def collective(self) -> Optional[str]:
        """The collective in one line; None outside of one."""
        if self.op is None:
            return None
        of = f" of {self.tensor}" if self.tensor else ""
        return f"in {self.op}{of} on the group {self.group}"

    def __str__(self) -> str:
        return f"at {self.at}" if self.op is None else f"{self.collective}, called at {self.at}"


def stack_of(thread: int) -> Optional[StackTrace]:
    """Where the thread with this identifier is; None where it has ended."""
    frames = frames_of(thread)
    return stack_of_frames(frames) if frames else None


def stack_of_error(error: BaseException) -> Optional[StackTrace]:
    """Where ``error`` was raised; None where it was not."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return stack_of_frames(frames[::-1]) if frames else None


def frames_of(thread: int) -> list[FrameType]:
    """The stack of a thread, innermost frame first; empty where the thread has ended."""
    innermost = sys._current_frames().get(thread)
    return [] if innermost is None else [frame for frame, _ in walk_stack(innermost)]


def stack_of_frames(frames: Sequence[FrameType]) -> StackTrace:
    """Where a stack is, innermost frame first."""
    collectives = [index for index, frame in enumerate(frames) if frame.f_globals.get("__name__") == _C10D]
    asked = frames[collectives[-1]] if collectives else None
    callers = frames[collectives[-1] + 1 :] if collectives else frames
    caller = next((frame for frame in callers if _is_caller(frame)), frames[0])
    group, ranks = _group(asked.f_locals.get("group")) if asked else (None, None)
    return StackTrace(
        at=_line(caller),
        stack=tuple(_line(frame) for frame in reversed(frames[:_MOST_FRAMES])),
        op=asked.f_code.co_name if asked else None,
        tensor=_tensor(asked.f_locals) if asked else None,
        group=group,
        ranks=ranks,
    )


def _is_caller(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.startswith(_CALLERS) and not module.startswith(_PLUMBING)


def _line(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(code.co_filename.split('/')[-3:])}:{frame.f_lineno} in {code.co_name}"


def _tensor(variables: Any) -> Optional[str]:
    for name in _TENSORS:
        value = variables.get(name)
        if isinstance(value, torch.Tensor):
            return describe(value)
    return None


def describe(tensor: torch.Tensor) -> str:
    """Dtype and shape in one word: ``int32[7]``."""
    return f"{str(tensor.dtype).rpartition('.')[2]}[{','.join(map(str, tensor.shape))}]"


def _group(group: Any) -> tuple[str, Optional[tuple[int, int]]]:
    """vLLM's name of a group and which of its two backends it is; the first of its world ranks and their number."""
    from vllm.distributed import parallel_state

    for reference in parallel_state._groups.values():
        coordinator = reference()
        if coordinator is not None and group is not None:
            name = coordinator.unique_name.partition(":")[0]
            ranks = (coordinator.ranks[0], len(coordinator.ranks))
            if group is coordinator.device_group:
                return f"{name} (device)", ranks
            if group is coordinator.cpu_group:
                return f"{name} (cpu)", ranks
    if getattr(group, "group_desc", "") == METADATA_GROUP:
        return METADATA_GROUP, None
    return getattr(group, "group_name", "world"), None
