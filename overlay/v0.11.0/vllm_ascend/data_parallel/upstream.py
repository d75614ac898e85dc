# SPDX-License-Identifier: Apache-2.0
"""What vllm-ascend 0.11.0 does otherwise than the releases of other sets."""

from __future__ import annotations

from typing import Any

import torch
from vllm_ascend.ascend_config import get_ascend_config
from vllm_ascend.utils import enable_sp, lmhead_tp_enable, mlp_tp_enable, oproj_tp_enable

from vllm_ascend.data_parallel.moe_comm import GATHERS_ALONE
from vllm_ascend.data_parallel.row_groups import RowGroup

# Fewest expert-parallel ranks for which generic MoE layers run MC2, by the name of the AscendSocVersion.
GENERIC_MC2_MIN_EP_SIZE = {"A2": 16, "A3": 2}

# Whether layers whose state is AllGatherEP exchange their tokens through the all-gather dispatcher.
ALL_GATHER_EP_HAS_DISPATCHER = False

# Whether custom MoE layers exchange by all-to-all where the choice is MC2 and shared experts are data parallel.
SHARED_EXPERT_DP_AVOIDS_MC2 = True

# Whether generic MoE layers look the step's communication up; otherwise each broadcasts its rows to all ranks.
GENERIC_LAYERS_CHOOSE = True

# Whether TorchAir's attention pads a graph's requests beyond the runner's buffers (#2719).
TORCHAIR_PADS_REQUESTS = True

# The quantisation of experts that all-gather cannot take.
_CANNOT_GATHER = "w4a8_dynamic"


def generic_layers(vllm_config: Any) -> dict[str, bool]:
    """What the choice for generic layers depends on beside SoC, ranks and sizes."""
    hf_config = vllm_config.model_config.hf_config
    sequence_parallel = bool(enable_sp(vllm_config))
    return {
        "sequence_parallel": sequence_parallel,
        "generic_multicasts_prefill": not sequence_parallel,
        "generic_gathers_alone": getattr(hf_config, "model_type", None) == GATHERS_ALONE,
        "generic_cannot_gather": getattr(hf_config, "moe_quantize", None) == _CANNOT_GATHER,
    }


def lm_head_parallel() -> bool:
    """Whether the lm head is split over a group of its own."""
    return bool(lmhead_tp_enable())


def row_group_sizes(vllm_config: Any) -> dict[RowGroup, int]:
    """Ranks of each group that exchanges rows between consecutive ranks."""
    sizes = {}
    if mlp_tp_enable():
        sizes[RowGroup.MLP] = vllm_config.parallel_config.data_parallel_size
    if oproj_tp_enable():
        sizes[RowGroup.O_PROJ] = get_ascend_config().oproj_tensor_parallel_size
    if lm_head_parallel():
        sizes[RowGroup.LM_HEAD] = get_ascend_config().lmhead_tensor_parallel_size
    return sizes


def torchair_splits_rows(soc: str) -> bool:
    """Whether TorchAir's decode rows are split over the tensor-parallel ranks where experts are parallel (#2719)."""
    return soc == "A3"


def compute_logits(model: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """The model's logits of ``hidden_states``."""
    return model.compute_logits(hidden_states)


def metadata_on_hosts(vllm_config: Any) -> bool:
    """Whether the metadata goes over the hosts' network where no setting says otherwise."""
    return bool(vllm_config.scheduler_config.async_scheduling)


def has_dp_communicator(vllm_config: Any) -> bool:
    """Whether the release itself communicates over the DP group's device backend."""
    del vllm_config  # it synchronises there, always
    return True
