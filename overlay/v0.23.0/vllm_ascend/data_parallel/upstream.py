# SPDX-License-Identifier: Apache-2.0
"""What vllm-ascend 0.23.0 does otherwise than the releases of other sets."""

from __future__ import annotations

from typing import Any

from vllm_ascend.ascend_config import get_ascend_config

from vllm_ascend.data_parallel.row_groups import RowGroup


def row_group_sizes(vllm_config: Any) -> dict[RowGroup, int]:
    """Ranks of each group, 0 or 1 for none.

    The output projection of DeepSeek-V4 exchanges a constant number of rows too, and is left out.
    """
    config = get_ascend_config().finegrained_tp_config
    constant = hasattr(vllm_config.model_config.hf_config, "compress_ratios")
    return {
        RowGroup.MLP: config.mlp_tensor_parallel_size,
        RowGroup.O_PROJ: 0 if constant else config.oproj_tensor_parallel_size,
    }


def metadata_on_hosts(vllm_config: Any) -> bool:
    """Whether the metadata goes over the hosts' network where no setting says otherwise, as upstream does unless it
    is told to keep the counts off the hosts: for what they return there is not reliable.
    """
    del vllm_config
    return not get_ascend_config().dp_allreduce_on_npu


def has_dp_communicator(vllm_config: Any) -> bool:
    """Whether the DP group's device communicator is the one to take: the release gives it a small buffer (#3073)."""
    del vllm_config
    return True
