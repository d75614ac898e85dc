# SPDX-License-Identifier: Apache-2.0
"""What is done when modules of vLLM and of vllm-ascend have been imported.

vllm_ascend.ops and vllm_ascend.device import each other, which goes well in one order alone: ops first. A real worker
begins there; a test that asks for the runner by itself does not. And it asks for the chip once, when it is imported: a
rank that is forked from such a process and then told its chip has to ask again.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import Any

from torch_npu import kernels
from torch_npu.imports import _AfterImport, _build_info


def _import_operators(_worker: ModuleType) -> None:
    importlib.import_module("vllm_ascend.ops")


def _replace_kernel(block_table: ModuleType) -> None:
    block_table._compute_slot_mapping_kernel = kernels.Launched(kernels.compute_slot_mapping)  # type: ignore[attr-defined]


def _give_slots_to_the_device(block_table: ModuleType) -> None:
    """The release fills the buffer of where positions are, with context parallelism; a device's are a CPU's here."""
    compute = block_table.BlockTable._compute_pcp_dcp_slot_mapping

    @functools.wraps(compute)
    def call(self: Any, req_indices: Any, positions: Any) -> None:
        compute(self, req_indices, positions)
        self.slot_mapping.copy_to_gpu(req_indices.shape[0])

    block_table.BlockTable._compute_pcp_dcp_slot_mapping = call  # type: ignore[attr-defined]


def _ask_for_the_chip(arguments: ModuleType) -> None:
    create = arguments.EngineArgs.create_engine_config

    @functools.wraps(create)
    def call(*args: Any, **kwargs: Any) -> Any:
        if (known := sys.modules.get("vllm_ascend.utils")) is not None:
            known._ascend_device_type = None  # type: ignore[attr-defined]
            built = importlib.import_module("vllm_ascend._build_info")
            if getattr(built, "__file__", None) is None:  # else of an installed wheel, made for one chip
                _build_info(built)
        return create(*args, **kwargs)

    arguments.EngineArgs.create_engine_config = call


def install() -> None:
    actions = {
        "vllm_ascend.worker": _import_operators,
        "vllm.v1.worker.block_table": _replace_kernel,
        "vllm_ascend.worker.block_table": _give_slots_to_the_device,
        "vllm.engine.arg_utils": _ask_for_the_chip,
    }
    sys.meta_path.insert(0, _AfterImport(actions))
