# SPDX-License-Identifier: Apache-2.0
"""A stand-in for torch_npu on the CPU, for tests: real operators in plain torch, backend "hccl" carried by gloo.

torch loads it by itself, as it loads the real one: through the entry point ``torch.backends`` of this distribution.
"""

from __future__ import annotations

import sys
from typing import Any


def _autoload() -> None:
    """What torch calls at the end of its own import; it stands first because that may run inside the next line."""


import torch

from torch_npu import _C, atb, collectives, device, imports, library, npu, profiler, release, trace
from torch_npu._C import _distributed_c10d
from torch_npu.ops import lora, native
from torch_npu.ops.attention import (
    _npu_flash_attention,
    _npu_flash_attention_qlens,
    _npu_flash_attention_unpad,
    _npu_paged_attention,
    _npu_paged_attention_get_workspace,
    _npu_paged_attention_splitfuse,
    npu_incre_flash_attention,
)
from torch_npu.ops.fused_attention import (
    _npu_fused_infer_attention_score_get_max_workspace,
    _npu_fused_infer_attention_score_v2_get_max_workspace,
    npu_attention_update,
    npu_fused_infer_attention_score,
    npu_fused_infer_attention_score_v2,
    npu_fusion_attention,
)
from torch_npu.ops.cache import (
    _npu_reshape_and_cache,
    get_npu_format,
    npu_format_cast,
    npu_format_cast_,
    npu_prefetch,
    npu_scatter_nd_update_,
)
from torch_npu.ops.matmul import _npu_matmul_add_fp32, npu_grouped_matmul, npu_transpose_batchmatmul
from torch_npu.ops.mc2 import npu_moe_distribute_combine, npu_moe_distribute_dispatch
from torch_npu.ops.mla import _npu_paged_attention_mla, npu_kv_rmsnorm_rope_cache
from torch_npu.ops.moe import (
    _npu_group_topk,
    npu_moe_compute_expert_tokens,
    npu_moe_finalize_routing,
    npu_moe_gating_top_k,
    npu_moe_gating_top_k_softmax,
    npu_moe_init_routing,
    npu_moe_init_routing_v2,
    npu_moe_token_permute,
    npu_moe_token_unpermute,
)
from torch_npu.ops.norm import npu_add_rms_norm, npu_fast_gelu, npu_gelu, npu_rms_norm, npu_swiglu
from torch_npu.ops.quant import (
    _npu_quant_rms_norm,
    npu_add_rms_norm_quant,
    npu_dequant_swiglu_quant,
    npu_dynamic_quant,
    npu_mm_all_reduce_base,
    npu_quant_matmul,
    npu_quantize,
)
from torch_npu.ops.rope import _npu_rotary_embedding, npu_apply_rotary_pos_emb, npu_interleave_rope, npu_rotary_mul
from torch_npu.ops.sampling import npu_top_k_top_p

__version__ = release.VERSION


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"module 'torch_npu' has no attribute {name!r}: the CPU stand-in does not have it; add it under "
        "tests/standin/torch_npu/ops"
    )


def _install() -> None:
    device.install()
    library.install()
    collectives.install()
    native.install()
    if trace.enabled():
        trace.install()
    imports.install(traced=trace.enabled())
    if release.HAS_KERNELS:  # code for older releases never asks it
        npu.serve_accelerator()
    torch.npu = npu  # type: ignore[attr-defined]
    sys.modules["torch.npu"] = npu
    torch.version.cann = release.CANN  # type: ignore[attr-defined]
    torch.set_num_threads(1)


_install()
