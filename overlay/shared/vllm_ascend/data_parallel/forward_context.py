# SPDX-License-Identifier: Apache-2.0
"""The MoE communication of a forward pass, read from vLLM's and vllm-ascend's configuration."""

from __future__ import annotations

from typing import Any, Optional

import vllm_ascend.envs as envs_ascend
from vllm.distributed import get_ep_group
from vllm_ascend.ascend_config import get_ascend_config
from vllm_ascend.utils import get_ascend_soc_version

from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.moe_comm import MC2_MIN_EP_SIZE, MoECommConfig, mc2_capacity

# Routed experts of DeepSeek V3 and R1, by which upstream recognises the models of its fused all-gather kernel.
DEEPSEEK_V3_ROUTED_EXPERTS = 256


def _soc() -> str:
    """The name of the SoC; an unknown one before a worker has asked for it, as where a layer is tested alone."""
    try:
        return str(get_ascend_soc_version().name)
    except AssertionError:
        return "UNDEFINED"


def moe_comm_config(vllm_config: Any, capacity: Optional[int] = None) -> MoECommConfig:
    """The deployment's static facts, made once for each capacity: every forward pass asks for them.

    ``capacity`` is MC2's in tokens per DP rank, 0 where it has no mask to run with; None for what its kernel takes. A
    switch that a release does not have is off there.
    """
    made: dict[Optional[int], MoECommConfig] = vars(vllm_config).setdefault("_moe_comm_configs", {})
    if capacity not in made:
        made[capacity] = _made(vllm_config, capacity)
    return made[capacity]


def _made(vllm_config: Any, capacity: Optional[int]) -> MoECommConfig:
    ascend_config = get_ascend_config()
    routed_experts = getattr(vllm_config.model_config.hf_config, "n_routed_experts", None)
    soc, tp_size = _soc(), vllm_config.parallel_config.tensor_parallel_size
    if capacity is None:
        capacity = mc2_capacity(soc, tp_size)
    shared_expert_dp = getattr(ascend_config, "enable_shared_expert_dp", False)
    of_mla = shared_expert_dp and vllm_config.model_config.use_mla
    return MoECommConfig(
        soc=soc,
        ep_size=get_ep_group().world_size if vllm_config.parallel_config.enable_expert_parallel else 1,
        mc2_capacity=capacity,
        layers_pad=not shared_expert_dp or (of_mla and upstream.SHARED_EXPERT_DP_AVOIDS_MC2),
        attention_pads=not (of_mla and (tp_size > 1 or upstream.SHARED_EXPERT_DP_AVOIDS_MC2)),
        compiled_decode=ascend_config.torchair_graph_config.enabled,
        fused_all_gather_ep=bool(envs_ascend.VLLM_ENABLE_FUSED_EXPERTS_ALLGATHER_EP)
        and routed_experts == DEEPSEEK_V3_ROUTED_EXPERTS,
        all_gather_ep_has_dispatcher=upstream.ALL_GATHER_EP_HAS_DISPATCHER,
        all_to_all_seq=bool(getattr(envs_ascend, "VLLM_ASCEND_ENABLE_MOE_ALL2ALL_SEQ", False)),
        generic_layers_choose=upstream.GENERIC_LAYERS_CHOOSE,
        generic_mc2_min_ep_size=upstream.GENERIC_MC2_MIN_EP_SIZE.get(soc, MC2_MIN_EP_SIZE),
        **upstream.generic_layers(vllm_config),
    )
