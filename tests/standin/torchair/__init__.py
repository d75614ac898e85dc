# SPDX-License-Identifier: Apache-2.0
"""A stand-in for torchair, Ascend's graph compiler: models run as they are written, without being compiled.

What a rank decides before it calls a compiled model (its padded size, which graph) is the caller's Python and is
unchanged.
"""

from __future__ import annotations

from torchair import fx_summary, inference, npu_fx_compiler, ops, scope
from torchair.compiler import CompilerConfig, NpuBackend, get_npu_backend, patch_for_hcom

__all__ = [
    "CompilerConfig",
    "NpuBackend",
    "fx_summary",
    "get_npu_backend",
    "inference",
    "npu_fx_compiler",
    "ops",
    "patch_for_hcom",
    "scope",
]
