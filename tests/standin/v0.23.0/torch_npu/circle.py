# SPDX-License-Identifier: Apache-2.0
"""vllm_ascend.ops and vllm_ascend.device import each other, which goes well in one order alone: ops first.

A real worker begins there; a test that asks for the runner by itself does not.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from torch_npu.imports import _AfterImport


def _import_operators(_module: ModuleType) -> None:
    importlib.import_module("vllm_ascend.ops")


def install() -> None:
    sys.meta_path.insert(0, _AfterImport({"vllm_ascend.worker": _import_operators}))
