# SPDX-License-Identifier: Apache-2.0
"""What vllm-ascend 0.10.0rc1 does otherwise than the releases of other sets."""

from __future__ import annotations

import os
from typing import Any

import torch
from vllm_ascend.ascend_config import get_ascend_config

from vllm_ascend.data_parallel.moe_comm import has_experts
from vllm_ascend.data_parallel.row_groups import RowGroup
from vllm_ascend.data_parallel.settings import gives_up_before_gloo

# Fewest expert-parallel ranks for which generic MoE layers run MC2, by the name of the AscendSocVersion: none does.
GENERIC_MC2_MIN_EP_SIZE: dict[str, int] = {}

# Whether layers whose state is AllGatherEP exchange their tokens through the all-gather dispatcher.
ALL_GATHER_EP_HAS_DISPATCHER = False

# Whether custom MoE layers exchange by all-to-all where the choice is MC2 and shared experts are data parallel.
SHARED_EXPERT_DP_AVOIDS_MC2 = False

# Whether generic MoE layers look the step's communication up; otherwise each broadcasts its rows to all ranks.
GENERIC_LAYERS_CHOOSE = False

# Whether TorchAir's attention pads a graph's requests beyond the runner's buffers.
TORCHAIR_PADS_REQUESTS = False


def lm_head_parallel() -> bool:
    """Whether the lm head is split over a group of its own; this release cannot."""
    return False


def row_group_sizes(vllm_config: Any) -> dict[RowGroup, int]:
    """Ranks of each group that exchanges rows between consecutive ranks; this release has none."""
    del vllm_config
    return {}


def torchair_splits_rows(soc: str) -> bool:
    """Whether TorchAir's decode rows are split over the tensor-parallel ranks where experts are parallel."""
    del soc  # on every one
    return True


def generic_layers(vllm_config: Any) -> dict[str, bool]:
    """What the choice for generic layers depends on beside SoC, ranks and sizes."""
    del vllm_config  # nothing
    return {}


def compute_logits(model: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """The model's logits of ``hidden_states``."""
    return model.compute_logits(hidden_states, None)


def metadata_on_hosts(vllm_config: Any) -> bool:
    """Whether the metadata goes over the hosts' network where no setting says otherwise: where a rank that is late
    would be given up sooner on the device, for this release synchronises on the hosts.
    """
    return bool(vllm_config.scheduler_config.async_scheduling) or gives_up_before_gloo(os.environ)


def has_dp_communicator(vllm_config: Any) -> bool:
    """Whether the release itself communicates over the DP group's device backend.

    It synchronises on the CPU, so only layers do: those with experts, but for custom ones with experts in parallel,
    which it runs outside of ACL graphs.
    """
    in_acl_graph = not (vllm_config.model_config.enforce_eager or get_ascend_config().torchair_graph_config.enabled)
    parallel = vllm_config.parallel_config.enable_expert_parallel
    return has_experts(vllm_config.model_config.hf_config) and (in_acl_graph or not parallel)
