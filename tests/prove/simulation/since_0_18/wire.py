# SPDX-License-Identifier: Apache-2.0
"""The collectives of a model's layers, as upstream issues them for a forward context; the patches leave them be.

Tensor-parallel collectives stay within a DP rank and are left out; those over the expert-parallel group pair the same
tensor-parallel rank of every DP rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from vllm_ascend.attention import mla_v1

from simulation.network import Call

ALL_GATHER, ALL_TO_ALL, MC2 = "ALLGATHER", "ALLTOALL", "MC2"


def embedding(rows: int, dp: int) -> Iterator[Call]:
    """What an embedding that is split over the DP ranks issues for ``rows`` rows (ops/vocab_parallel_embedding.py)."""
    yield Call("embedding", "all_gather", (rows,))
    yield Call("embedding", "reduce_scatter", (rows * dp,))


def lm_head(rows: int, dp: int) -> Iterator[Call]:
    """The same of the lm head."""
    yield Call("lm head", "all_gather", (rows,))
    yield Call("lm head", "all_to_all", (rows * dp,))


def idle_attention_projects(rows: int) -> bool:
    """Whether DeepSeek's attention, which knows of no request, projects ``rows`` rows all the same."""
    projected: list[int] = []

    def o_proj(given: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        projected.append(given.shape[0])
        return given, None

    layer = SimpleNamespace(layer_sharding_kwargs=None, num_heads=1, v_head_dim=1, o_proj=o_proj)
    hidden = torch.zeros((rows, 1))
    with patch.object(mla_v1, "_EXTRA_CTX", SimpleNamespace(num_tokens=rows)):
        mla_v1.AscendMLAImpl.forward(layer, "", hidden, (), None, output=torch.empty_like(hidden))
    return projected == [rows]


def layer(
    method: str, context: Any, rows: int, dp: int, *, replays: bool, any_rows: bool, by_pass: bool
) -> Iterator[Call]:
    """What one MoE layer issues for ``rows`` rows (ops/fused_moe/prepare_finalize.py, token_dispatcher.py).

    ``replays`` says that a graph does, with the sizes of its capture, where all ranks had ``rows``; ``any_rows`` that
    MC2's kernel was told to expect unequal rows; ``by_pass`` that rows are split by vLLM's compile pass.
    """
    if method == MC2:
        sent = None if any_rows else (rows if replays else max(rows, context.padded_num_tokens),)
        yield Call("ep", "mc2_dispatch", sent)
        yield Call("ep", "mc2_combine", sent)
    elif method == ALL_TO_ALL:
        yield Call("ep", "all_gather")
        yield Call("ep", "all_to_all")
        yield Call("ep", "all_to_all")
    elif dp == 1:
        return
    elif method == ALL_GATHER:
        split = by_pass or context.flash_comm_v1_enabled
        padded = (
            rows if by_pass or replays else context.padded_length if split else max(rows, context.max_tokens_across_dp)
        )
        group = "ep" if split else "dp device"
        yield Call(group, "all_gather", (padded,))
        yield Call(group, "all_gather", (padded,))
        yield Call(group, "reduce_scatter", (padded * dp,))
