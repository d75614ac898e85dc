# SPDX-License-Identifier: Apache-2.0
"""Which MoE communication a step uses. These releases have one chooser, which asks for the largest row count over the
DP ranks; its answer depends on that count by one bound alone, MC2's capacity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from vllm_ascend.data_parallel.mc2 import mc2_rows


class MoEComm(Enum):
    """Upstream's ``MoECommType`` by name; NONE for a dense model."""

    NONE = "none"
    ALLGATHER = "all-gather"
    MC2 = "MC2"
    ALLTOALL = "all-to-all"
    FUSED_MC2 = "fused MC2"


@dataclass(frozen=True)
class MoECommConfig:
    """Static facts of a deployment that the choice depends on; equal on every rank.

    ``mc2_capacity`` is in tokens per DP rank. ``within`` is the communication of a step of no more rows than that,
    ``beyond`` of a larger one.
    """

    soc: str
    ep_size: int
    mc2_capacity: int
    within: MoEComm = MoEComm.ALLGATHER
    beyond: MoEComm = MoEComm.ALLGATHER


@dataclass(frozen=True)
class MoECommChoice:
    """The method for each family of layers, which are one here."""

    generic: MoEComm

    @property
    def custom(self) -> MoEComm:
        """The same."""
        return self.generic


def select_moe_comm(max_num_tokens: int, with_prefill: bool, config: MoECommConfig) -> MoECommChoice:
    """The choice for a step in which the largest rank computes ``max_num_tokens`` rows, whatever they are."""
    del with_prefill
    return MoECommChoice(config.within if max_num_tokens <= config.mc2_capacity else config.beyond)


def mc2_capacity(largest_decode: int, soc: str, tp_size: int) -> int:
    """Most tokens of a DP rank that MC2 takes: the largest decode or graph, but no more than its kernel takes."""
    return min(-(-largest_decode // tp_size), mc2_rows(soc)) * tp_size


def moe_comm_config(vllm_config: Any) -> MoECommConfig:
    """The deployment's static facts, from upstream's own chooser."""
    from vllm.distributed import get_ep_group
    from vllm_ascend.ascend_forward_context import get_mc2_tokens_capacity, select_moe_comm_method
    from vllm_ascend.utils import get_ascend_device_type

    capacity = get_mc2_tokens_capacity()

    def named(num_tokens: int) -> MoEComm:
        found = select_moe_comm_method(num_tokens, vllm_config)
        return MoEComm.NONE if found is None else MoEComm[found.name]

    return MoECommConfig(
        soc=get_ascend_device_type().name,
        ep_size=get_ep_group().world_size if vllm_config.parallel_config.enable_expert_parallel else 1,
        mc2_capacity=capacity,
        within=named(capacity),
        beyond=named(capacity + 1),
    )
