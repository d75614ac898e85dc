# SPDX-License-Identifier: Apache-2.0
"""What vllm-ascend 0.18.0 does otherwise than the releases of other sets."""

from __future__ import annotations

from typing import Any

from vllm_ascend.ascend_config import get_ascend_config

from vllm_ascend.data_parallel.row_groups import RowGroup


def row_group_sizes() -> dict[RowGroup, int]:
    """Ranks of each group that exchanges rows between consecutive ranks, 0 or 1 for none."""
    config = get_ascend_config().finegrained_tp_config
    return {
        RowGroup.EMBEDDING: config.embedding_tensor_parallel_size,
        RowGroup.MLP: config.mlp_tensor_parallel_size,
        RowGroup.O_PROJ: config.oproj_tensor_parallel_size,
    }


def metadata_on_hosts(vllm_config: Any) -> bool:
    """Whether the metadata goes over the hosts' network where no setting says otherwise."""
    del vllm_config  # as upstream does
    return True


def has_dp_communicator(vllm_config: Any) -> bool:
    """Whether the DP group's device communicator is the one to take: the release gives it a small buffer (#3073)."""
    del vllm_config
    return True
