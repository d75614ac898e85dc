# SPDX-License-Identifier: Apache-2.0
"""What upstream's accessors answer for a deployment, beside its groups."""

from __future__ import annotations

import os
from types import SimpleNamespace

from simulation.schedule import Deployment
from vllm_ascend import ascend_config, ascend_forward_context, utils

# What upstream reads once and keeps; None has it read anew.
_KEPT = {
    utils: ("_IS_MOE_MODEL", "_IS_DRAFTER_MOE_MODEL", "_IS_VL_MODEL", "_HAS_LAYER_IDX", "_potential_max_tokens"),
    ascend_forward_context: ("_mc2_tokens_capacity", "_reserved_mc2_mask"),
}


def answer_for(deployment: Deployment) -> None:
    """Sets what the release reads from its configuration, the environment and the device."""

    def over_dp_ranks(parallel: bool) -> int:
        return deployment.dp if parallel else 0

    ascend_config._ASCEND_CONFIG = SimpleNamespace(  # type: ignore[assignment]
        finegrained_tp_config=SimpleNamespace(
            oproj_tensor_parallel_size=over_dp_ranks(deployment.oproj_parallel),
            lmhead_tensor_parallel_size=over_dp_ranks(deployment.lmhead_parallel),
            embedding_tensor_parallel_size=over_dp_ranks(deployment.embedding_parallel),
            mlp_tensor_parallel_size=over_dp_ranks(deployment.mlp_parallel),
        ),
        recompute_scheduler_enable=deployment.recompute,
        enable_shared_expert_dp=deployment.shared_expert_dp,
        enable_sp_by_pass=deployment.sequence_pass,
        enable_mc2_hierarchy_comm=False,
        multistream_overlap_gate=False,
        enable_async_exponential=False,
        layer_sharding=None,
        enable_prefill_mc2=deployment.prefill_mc2,
        dp_allreduce_on_npu=deployment.counts_on_device,
        enable_fused_mc2=0,
        enable_reduce_sample=False,
        enable_flashcomm2_parallel_size=0,
        profiling_chunk_config=SimpleNamespace(need_timing=False),
        ascend_compilation_config=None,
        eplb_config=None,
        xlite_graph_config=SimpleNamespace(enabled=False, full_mode=False),
    )
    for module, names in _KEPT.items():
        for name in names:
            setattr(module, name, None)
    utils._ENABLE_SP = deployment.sequence_parallel or deployment.shared_expert_dp
    utils._ascend_device_type = utils.AscendDeviceType[deployment.soc]
    os.environ["VLLM_ASCEND_DP_METADATA_GROUP"] = "cpu" if deployment.cpu_group else "device"
    if deployment.counts_on_device:  # then the release's own choice counts
        del os.environ["VLLM_ASCEND_DP_METADATA_GROUP"]
