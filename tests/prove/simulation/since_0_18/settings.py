# SPDX-License-Identifier: Apache-2.0
"""What upstream's accessors answer for a deployment, beside its groups."""

from __future__ import annotations

import os
from types import SimpleNamespace

from simulation.schedule import Deployment
from vllm_ascend import ascend_config, ascend_forward_context, utils

# What upstream reads once and keeps; None has it read anew.
_KEPT = {
    utils: ("_IS_MOE_MODEL", "_IS_DRAFTER_MOE_MODEL", "_IS_VL_MODEL", "_HAS_LAYER_IDX"),
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
        enable_async_exponential=False,
        layer_sharding=None,
    )
    for module, names in _KEPT.items():
        for name in names:
            setattr(module, name, None)
    utils._ENABLE_SP = deployment.sequence_parallel or deployment.shared_expert_dp
    utils._ascend_device_type = utils.AscendDeviceType[deployment.soc]
    os.environ["VLLM_ASCEND_DP_METADATA_GROUP"] = "cpu" if deployment.cpu_group else "device"
