# SPDX-License-Identifier: Apache-2.0
"""The process-wide state that upstream's code reads: groups, SoC and configuration, set from a deployment.

Upstream's accessors stay; only what they return is set. `torch.distributed.all_reduce` is the one function that is
replaced: it joins the simulated network.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import vllm.forward_context as vllm_context
from vllm.distributed import parallel_state as groups

from simulation.network import Call, Network, Work
from simulation.schedule import Deployment, Mode
from vllm_ascend import ascend_config, utils

# What vLLM's DPMetadata makes for a forward that brings no counts.
COUNTS = "all_reduce of counts"

_network = Network(1)


def network() -> Network:
    """The network of the schedule that runs."""
    return _network


def all_reduce(tensor: torch.Tensor, op: Any = None, group: str = "", async_op: bool = False) -> Work | None:
    """`torch.distributed.all_reduce` over the simulated network; a group is its name here."""
    counts_alone = sys._getframe(1).f_code is vllm_context.DPMetadata.num_tokens_across_dp.__code__
    _network.metadata[_network.rank].append(not counts_alone)
    name = COUNTS if counts_alone else "all_reduce"
    work = _network.issue(Call(group, name, tuple(tensor.shape), metadata=True), tensor)
    if async_op:
        return work
    work.wait()
    return None


class _Group:
    """A group coordinator of all DP ranks; its rank is that of the running greenlet."""

    device_group, cpu_group = "dp device", "dp cpu"

    def __init__(self, size: int) -> None:
        self.world_size = size

    @property
    def rank_in_group(self) -> int:
        return _network.rank


def enter(deployment: Deployment) -> Network:
    """Makes a deployment the one that upstream's accessors answer for; its network, with no call issued."""
    global _network
    _network = Network(deployment.dp)
    groups._DP = _Group(deployment.dp)  # type: ignore[assignment]
    groups._EP = _Group(deployment.dp * deployment.tp)  # type: ignore[assignment]
    groups._TP = SimpleNamespace(world_size=deployment.tp, rank_in_group=0)
    groups._PP = SimpleNamespace(world_size=1, is_first_rank=True, is_last_rank=True)
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
    vllm_context._forward_context = None
    dist.all_reduce = all_reduce  # type: ignore[assignment]
    return _network
