# SPDX-License-Identifier: Apache-2.0
"""The host's buffers of a step's inputs, where the next step is prepared before this one has ended.

That is so with async scheduling, and on all but the last stage of a pipeline; elsewhere the step has read its tokens
from the device. Upstream reads the DP metadata there before it fills the buffers anew, and so waits by accident until
nothing in flight needs them. A step of this set reads nothing where a rank decides alone, or over the CPU group.
"""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable, TypeVar

import torch
from vllm.distributed import get_pp_group

Prepare = TypeVar("Prepare", bound=Callable[..., Any])

# Where a runner keeps the event after the copies of its last step, and the lengths that are not that step's.
_LAST = "_input_copies_and_spare_lengths"


def keeps_inputs_in_flight(prepare: Prepare) -> Prepare:
    """Decorate a runner's ``_prepare_inputs``: no buffer is filled before the device has what it held.

    The copies of the last step follow the step before that on the device, whose result is known by now, so that the
    wait is short. Kernels of attention are handed lengths on the host, ``[max_num_reqs]`` int32, which the last step
    may still read when it is launched: every other step has another buffer.
    """

    @wraps(prepare)
    def prepared(runner: Any, *args: Any, **kwargs: Any) -> Any:
        if runner.dp_size == 1 or not (getattr(runner, "use_async_scheduling", False) or _hands_on()):
            return prepare(runner, *args, **kwargs)
        last = vars(runner).get(_LAST)
        if last is None:
            last = torch.npu.Event(), torch.zeros_like(runner.seq_lens_cpu, pin_memory=runner.pin_memory)
        else:
            last[0].synchronize()
        copied, lengths = last
        vars(runner)[_LAST] = copied, runner.seq_lens_cpu
        runner.seq_lens_cpu, runner.seq_lens_np = lengths, lengths.numpy()
        inputs = prepare(runner, *args, **kwargs)
        copied.record()
        return inputs

    return prepared  # type: ignore[return-value]


def _hands_on() -> bool:
    """Whether another stage of the pipeline computes the tokens."""
    return not get_pp_group().is_last_rank
