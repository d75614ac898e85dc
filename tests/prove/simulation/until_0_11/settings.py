# SPDX-License-Identifier: Apache-2.0
"""What upstream's accessors answer for a deployment, beside its groups."""

from __future__ import annotations

import os
from types import SimpleNamespace

from simulation.schedule import Deployment, Mode
from vllm_ascend import ascend_config, utils


def answer_for(deployment: Deployment) -> None:
    """Sets what the release reads from its configuration, the environment and the device."""
    utils._ascend_soc_version = utils.AscendSocVersion[deployment.soc]
    ascend_config._ASCEND_CONFIG = SimpleNamespace(  # type: ignore[assignment]
        ascend_scheduler_config=SimpleNamespace(enabled=False),
        torchair_graph_config=SimpleNamespace(enabled=deployment.mode is Mode.TORCHAIR),
        recompute_scheduler_enable=False,
        enable_shared_expert_dp=deployment.shared_expert_dp,
        lmhead_tensor_parallel_size=deployment.dp if deployment.lmhead_parallel else None,
        oproj_tensor_parallel_size=deployment.dp if deployment.oproj_parallel else None,
    )
    for cached, value in (
        ("_IS_MOE_MODEL", None),
        ("_ENABLE_SP", deployment.sequence_parallel),
        ("_HAS_LAYER_IDX", None),
    ):
        setattr(utils, cached, value)
    os.environ["VLLM_ASCEND_ENABLE_DBO"] = str(int(deployment.dbo))
    os.environ["VLLM_ASCEND_ENABLE_MLP_OPTIMIZE"] = str(int(deployment.mlp_parallel))
    os.environ["VLLM_ASCEND_DP_METADATA_GROUP"] = "cpu" if deployment.cpu_group else "device"
