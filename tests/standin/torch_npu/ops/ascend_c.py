# SPDX-License-Identifier: Apache-2.0
"""Operators of vllm-ascend's own library, ``torch.ops._C_ascend``, which importing its ``vllm_ascend_C`` registers.

Schemas are those of the release's csrc/torch_binding.cpp; what it can do without is not here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from torch_npu.library import define, npu_op
from torch_npu.ops.moe import npu_moe_gating_top_k, npu_moe_init_routing_v2
from torch_npu.ops.norm import npu_add_rms_norm

_NAMESPACE = "_C_ascend"

# For meta_registration.py, which gives it a shape; nothing here calls it. Those of LoRA are in lora.py.
_MASKED_INPUT = (
    "get_masked_input_and_mask(Tensor input, int org_vocab_start_index, int org_vocab_end_index, "
    "int num_org_vocab_padding, int added_vocab_start_index, int added_vocab_end_index) -> (Tensor, Tensor)"
)
_ADD_RMS_NORM_BIAS = (
    "npu_add_rms_norm_bias(Tensor x1, Tensor x2, Tensor gamma, Tensor? beta=None, float epsilon=1e-6) "
    "-> (Tensor, Tensor, Tensor)"
)
_GATING_TOP_K = (
    "moe_gating_top_k(Tensor x, int k, int k_group, int group_count, int group_select_mode, int renorm, "
    "int norm_type, bool out_flag, float routed_scaling_factor, float eps, Tensor? bias_opt=None) "
    "-> (Tensor, Tensor, Tensor)"
)
_INIT_ROUTING = (
    "npu_moe_init_routing_custom(Tensor x, Tensor expert_idx, *, Tensor? scale=None, Tensor? offset=None, "
    "int active_num=-1, int expert_capacity=-1, int expert_num=-1, int drop_pad_mode=0, "
    "int expert_tokens_num_type=0, bool expert_tokens_num_flag=False, int quant_mode=0, "
    "int[2] active_expert_range=[], int row_idx_type=0) -> (Tensor, Tensor, Tensor, Tensor)"
)


def npu_add_rms_norm_bias(
    x1: Tensor, x2: Tensor, gamma: Tensor, beta: Tensor | None = None, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """`npu_add_rms_norm`, with beta [hidden] added to the normed sum."""
    normed, rstd, total = npu_add_rms_norm(x1, x2, gamma, epsilon)
    return (normed if beta is None else normed + beta), rstd, total


def moe_gating_top_k(
    x: Tensor,
    k: int,
    k_group: int,
    group_count: int,
    group_select_mode: int,
    renorm: int,
    norm_type: int,
    out_flag: bool,
    routed_scaling_factor: float,
    eps: float,
    bias_opt: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`npu_moe_gating_top_k`, with each argument in its place."""
    found: tuple[Tensor, Tensor, Tensor] = npu_moe_gating_top_k(
        x,
        k,
        bias=bias_opt,
        k_group=k_group,
        group_count=group_count,
        group_select_mode=group_select_mode,
        renorm=renorm,
        norm_type=norm_type,
        out_flag=out_flag,
        routed_scaling_factor=routed_scaling_factor,
        eps=eps,
    )
    return found


def npu_moe_init_routing_custom(x: Tensor, expert_idx: Tensor, **more: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`npu_moe_init_routing_v2`."""
    found: tuple[Tensor, Tensor, Tensor, Tensor] = npu_moe_init_routing_v2(x, expert_idx, **more)
    return found


@cache
def register() -> None:
    """Registers them, once."""
    define(_MASKED_INPUT, namespace=_NAMESPACE)
    npu_op(_ADD_RMS_NORM_BIAS, namespace=_NAMESPACE)(npu_add_rms_norm_bias)
    npu_op(_GATING_TOP_K, namespace=_NAMESPACE)(moe_gating_top_k)
    npu_op(_INIT_ROUTING, namespace=_NAMESPACE)(npu_moe_init_routing_custom)
