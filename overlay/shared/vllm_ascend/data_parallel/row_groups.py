# SPDX-License-Identifier: Apache-2.0
"""Which layers exchange rows between DP ranks, and so need the same number of rows on each of them."""

from __future__ import annotations

from enum import Enum
from typing import Any, Mapping

from vllm_ascend.data_parallel.metadata import StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoECommConfig, select_moe_comm
from vllm_ascend.data_parallel.profiling import MoEFamilies


class RowGroup(Enum):
    """A family of layers that upstream can split over a group of its own, across DP ranks."""

    MLP = "MLP"
    O_PROJ = "o_proj"
    LM_HEAD = "lm head"


def spans_dp_ranks(group_size: int, ranks_per_dp_rank: int) -> bool:
    """Whether groups of ``group_size`` consecutive ranks of one pipeline stage hold ranks of more than one DP rank.

    A DP rank has ``ranks_per_dp_rank`` consecutive ranks in a stage, its tensor parallel ones: the groups are laid out
    in that order (init_ascend_model_parallel).
    """
    return group_size > 1 and ranks_per_dp_rank % group_size != 0


def spanning_groups(sizes: Mapping[RowGroup, int], parallel_config: Any) -> frozenset[RowGroup]:
    """Those of the groups of ``sizes`` ranks that span DP ranks, with vLLM's ParallelConfig."""
    tensor_parallel = parallel_config.tensor_parallel_size
    return frozenset(group for group, size in sizes.items() if spans_dp_ranks(size, tensor_parallel))


def must_agree(groups: frozenset[RowGroup], families: MoEFamilies, text_config: Mapping[str, Any]) -> bool:
    """Whether a rank's forward depends on the other ranks' batches: not with a dense model and no such group.

    ``text_config`` is that of the model; one that speaks of experts is taken for one that has them, whatever its
    layers are.
    """
    return bool(groups) or families != MoEFamilies() or any("expert" in name for name in text_config)


def needs_equal_rows(metadata: StepMetadata, groups: frozenset[RowGroup], moe: MoECommConfig) -> bool:
    """Whether some layer of the step exchanges rows between DP ranks and sees to no padding itself.

    ``groups`` are those that span DP ranks. Layers inside the model exchange all rows of a forward. A parallel lm head
    takes as many as the step has only in a decode; in another step it pads its own.
    """
    if groups and (groups != {RowGroup.LM_HEAD} or not metadata.with_prefill):
        return True
    return moe.needs_uniform_size(select_moe_comm(metadata.max_num_tokens, metadata.with_prefill, moe))
