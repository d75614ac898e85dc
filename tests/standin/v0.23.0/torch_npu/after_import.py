# SPDX-License-Identifier: Apache-2.0
"""What is done when modules of vLLM and of vllm-ascend have been imported.

vllm_ascend.ops and vllm_ascend.device import each other, which goes well in one order alone: ops first. A real worker
begins there; a test that asks for the runner by itself does not.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from torch_npu import kernels
from torch_npu.imports import _AfterImport


def _import_operators(_worker: ModuleType) -> None:
    importlib.import_module("vllm_ascend.ops")


def _replace_kernel(block_table: ModuleType) -> None:
    block_table._compute_slot_mapping_kernel = kernels.Launched(kernels.compute_slot_mapping)  # type: ignore[attr-defined]


def install() -> None:
    actions = {"vllm_ascend.worker": _import_operators, "vllm.v1.worker.block_table": _replace_kernel}
    sys.meta_path.insert(0, _AfterImport(actions))
