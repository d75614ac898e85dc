# SPDX-License-Identifier: Apache-2.0
"""Prefills that a worker times at its start, to size chunks by: their rows go to experts, as a real one's do."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import FORK, LATEST
from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor

ROWS = 4096


class ReachedError(Exception):
    """The forward, with the arguments of its context."""


@contextlib.contextmanager
def context(*_: Any, **arguments: Any) -> Iterator[None]:
    raise ReachedError(arguments)
    yield


def runner() -> MagicMock:
    """What `_dummy_run` asks on its way to the forward."""
    found = MagicMock(max_num_tokens=2 * ROWS, uniform_decode_query_len=1, dynamic_eplb=False, uses_xdrope_dim=0)
    for name in ("use_cp", "speculative_config", "_has_gdn", "use_compress", "supports_mm_inputs", "uses_mrope"):
        setattr(found, name, None)
    found.enable_prompt_embeds = False
    found.scheduler_config = SimpleNamespace(max_num_batched_tokens=2 * ROWS, max_num_seqs=16)
    found.input_ids.gpu = torch.zeros(2 * ROWS, dtype=torch.int32)
    found.model_config.get_vocab_size.return_value = 1000
    step = CUDAGraphMode.NONE, BatchDescriptor(ROWS), False, None, None
    found._determine_batch_execution_and_padding.return_value = step
    found._build_attention_metadata.return_value = {}, None
    found.recorder.begin.return_value = False
    found.kv_cache_config.kv_cache_groups = []
    found.maybe_dummy_run_with_lora = lambda *_, **__: contextlib.nullcontext()
    found._get_cumsum_and_arange.side_effect = lambda counts, *_: np.cumsum(counts)
    found.query_start_loc.np = np.zeros(100, dtype=np.int32)
    return found


def active_rows(timed: bool, tell: Any) -> None:
    """In a process of its own: upstream's runner comes with patches of vLLM's groups, which other tests do without."""
    with warnings.catch_warnings():  # of torch's own, about TorchScript, where upstream's modules are imported
        warnings.simplefilter("ignore", DeprecationWarning)
        from vllm_ascend.worker import model_runner_v1 as module
    module.set_ascend_forward_context = context
    module.get_pp_group = lambda: SimpleNamespace(is_first_rank=True)
    module.lmhead_tp_enable = module.update_cos_sin = module.copy_snapshot_to_gpu = lambda *_: False
    try:
        module.NPUModelRunner._dummy_run(runner(), ROWS, force_attention=True, profile_cpp=timed)
    except ReachedError as reached:
        tell(reached.args[0]["num_actual_tokens"])


@pytest.mark.parametrize(("timed", "active"), [(True, ROWS), (False, 0)])
def test_the_rows_of_a_prefill_that_is_timed_are_active(timed: bool, active: int) -> None:
    found = FORK.Queue()
    process = FORK.Process(target=active_rows, args=(timed, found.put))
    process.start()
    process.join(LATEST)
    assert process.exitcode == 0
    assert found.get(timeout=LATEST) == active
