# SPDX-License-Identifier: Apache-2.0
"""Which layers exchange rows between DP ranks, and so need the same number of rows on each of them.

The lm head is none of them: these releases give it one constant number of rows in every step; 0.23.0 gives the
embedding one, too.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Mapping

from vllm.config import CUDAGraphMode
from vllm_ascend.ascend_config import get_ascend_config

from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommConfig


class RowGroup(Enum):
    """A family of layers that upstream can split over a group of its own, across DP ranks."""

    EMBEDDING = "embedding"
    MLP = "MLP"
    O_PROJ = "o_proj"


def spans_dp_ranks(sizes: Mapping[RowGroup, int]) -> bool:
    """Whether some group is there: upstream makes each of ranks with the same place in their DP ranks."""
    return any(size > 1 for size in sizes.values())


def expects_equal_rows(vllm_config: Any, moe: MoECommConfig) -> bool:
    """Whether MoE layers cannot have rows added to a rank's own, so that every rank computes as many, as upstream's do.

    The gate of ``multistream_overlap_gate`` chooses experts for a rank's own rows before the layer adds others; what
    keeps each token's experts for its answer knows no rows that are added; and fused MC2 routes them as requests, all
    to the same experts, and drops what is more than one rank can take. xlite's full mode runs
    prefills too, and with graphs, which it has beside a drafter in 0.23.0, decodes have had the rows of a prefill.
    """
    chosen_before = bool(get_ascend_config().multistream_overlap_gate)
    kept = bool(vllm_config.model_config.enable_return_routed_experts)
    xlite = get_ascend_config().xlite_graph_config
    has_graphs = vllm_config.compilation_config.cudagraph_mode != CUDAGraphMode.NONE
    in_xlite = xlite.enabled and xlite.full_mode and has_graphs and not vllm_config.model_config.enforce_eager
    return chosen_before or kept or in_xlite or MoEComm.FUSED_MC2 in (moe.within, moe.beyond)
