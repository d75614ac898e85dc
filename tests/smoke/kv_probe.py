# SPDX-License-Identifier: Apache-2.0
"""Reports, for every step that stands for no request, whether it changed the KV cache.

One line for each profiling, capture or idle step, and for each step of the scheduler's without tokens, once there is a
cache::

    {"dummy": round, "changed": n}

``round`` is "start" before the first round. ``changed`` counts the elements, of K and V of all layers, that differ
after the step in any block but block 0. vLLM's block pool keeps block 0 for itself and gives it to no request; upstream
lets rows that only pad a graph write there. A slot of -1 is none: the kernels skip such a row.

And one for each time that such a step makes metadata of attention, where the release has one place for that::

    {"metadata": round, "blocks": n, "slots": m}

with how many of its rows the block tables on the device point at a block but block 0, and at a slot.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

Report = Callable[..., None]


class KvProbe:
    """Compares the caches before and after a step. ``enter`` names the round of the steps to come."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._round = "start"
        self._for_nobody = False

    def enter(self, name: str) -> None:
        self._round = name

    def install(self) -> None:
        """Wraps the steps of the vllm_ascend on the import path; call before an engine is made."""
        from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

        NPUModelRunner._dummy_run = self._watched(NPUModelRunner._dummy_run, lambda *_, **__: True)
        NPUModelRunner.execute_model = self._watched(
            NPUModelRunner.execute_model, lambda scheduled, *_, **__: scheduled.total_num_scheduled_tokens == 0
        )

        # Releases whose function takes others make no metadata for such a step.
        build = getattr(NPUModelRunner, "_build_attention_metadata", None)
        if build is not None and "num_tokens" in inspect.signature(build).parameters:
            NPUModelRunner._build_attention_metadata = self._with_rows_told(build)

    def _with_rows_told(self, build: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(build)
        def call(runner: Any, *args: Any, **kwargs: Any) -> Any:
            if self._for_nobody:
                self._tell_rows(runner.input_batch.block_table.block_tables, **kwargs)
            return build(runner, *args, **kwargs)

        return call

    def _tell_rows(self, tables: Sequence[Any], num_reqs: int, num_tokens: int, **_: Any) -> None:
        import torch

        with torch._C.DisableTorchFunction():
            blocks = sum(int((one.block_table.gpu[:num_reqs, 0] != 0).sum()) for one in tables)
            slots = sum(int((one.slot_mapping.gpu[:num_tokens] >= 0).sum()) for one in tables)
        self._report(metadata=self._round, blocks=blocks, slots=slots)

    def _watched(self, step: Callable[..., Any], stands_for_nobody: Callable[..., bool]) -> Callable[..., Any]:
        import torch

        @functools.wraps(step)
        def call(runner: Any, *args: Any, **kwargs: Any) -> Any:
            if not stands_for_nobody(*args, **kwargs) or not runner.kv_caches:
                return step(runner, *args, **kwargs)
            # Not to be seen by the stand-in's trace: these reads are the test's, not the engine's.
            with torch._C.DisableTorchFunction():
                before = [cache.clone() for cache in _real_blocks(runner)]
            self._for_nobody = True
            try:
                result = step(runner, *args, **kwargs)
            finally:
                self._for_nobody = False
            with torch._C.DisableTorchFunction():
                pairs = zip(before, _real_blocks(runner), strict=True)
                changed = sum(int((old != new).sum()) for old, new in pairs if not torch.equal(old, new))
            self._report(dummy=self._round, changed=changed)
            return result

        return call


def _real_blocks(runner: Any) -> list[Any]:
    """The caches of all layers without block 0: each ``[blocks, ..]``, or K and V in one ``[2, blocks, ..]``."""
    from torch.utils._pytree import tree_leaves

    blocks = runner.vllm_config.cache_config.num_gpu_blocks
    return [cache[1:] if cache.shape[0] == blocks else cache[:, 1:] for cache in tree_leaves(runner.kv_caches)]
