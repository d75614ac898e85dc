# SPDX-License-Identifier: Apache-2.0
"""The process-wide state that upstream's code reads: groups and configuration, set from a deployment.

Upstream's accessors stay; only what they return is set. `torch.distributed.all_reduce` is the one function that is
replaced: it joins the simulated network.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import vllm.forward_context as vllm_context
from vllm.distributed import parallel_state as groups

from simulation import family
from simulation.network import Call, Network, Work
from simulation.schedule import Deployment

# The hosts' group of all DP ranks, and what vLLM's DPMetadata makes for a forward that brings no counts.
HOSTS = "dp cpu"
COUNTS = "all_reduce of counts"
_COUNTING = getattr(getattr(vllm_context.DPMetadata, "num_tokens_across_dp", None), "__code__", None)

_network = Network(1)


def network() -> Network:
    """The network of the schedule that runs."""
    return _network


def all_reduce(tensor: torch.Tensor, op: Any = None, group: str = "", async_op: bool = False) -> Work | None:
    """`torch.distributed.all_reduce` over the simulated network; a group is its name here."""
    counts_alone = sys._getframe(1).f_code is _COUNTING
    _network.metadata[_network.rank].append(not counts_alone)
    name = COUNTS if counts_alone else "all_reduce"
    work = _network.issue(Call(group, name, tuple(tensor.shape), metadata=True), tensor)
    if async_op:
        return work
    work.wait()
    return None


class _Group:
    """A group coordinator of all DP ranks; its rank is that of the running greenlet."""

    device_group, cpu_group = "dp device", HOSTS

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
    family.module("settings").answer_for(deployment)
    vllm_context._forward_context = None
    dist.all_reduce = all_reduce  # type: ignore[assignment]
    return _network
