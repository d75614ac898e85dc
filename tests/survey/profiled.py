# SPDX-License-Identifier: Apache-2.0
"""How an engine is given a profiler: by a variable of the environment, and in later releases by a setting."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def environment(folder: str) -> dict[str, str]:
    return {"VLLM_TORCH_PROFILER_DIR": folder}


def arguments(folder: str) -> dict[str, Any]:
    """Of ``vllm.LLM``, in this process's release; what the profiler writes goes into ``folder``."""
    from vllm.engine.arg_utils import EngineArgs

    if "profiler_config" not in {field.name for field in fields(EngineArgs)}:
        return {}
    return {"profiler_config": {"profiler": "torch", "torch_profiler_dir": folder}}
