# SPDX-License-Identifier: Apache-2.0
"""The collectives of one MoE layer, as upstream's layers issue them for a forward context; the patches leave them be.

Read from v0.10.1rc1's distributed/moe_comm_method.py and ops/fused_moe.py, and what they became. Tensor-parallel
collectives stay within a DP rank and are left out; those over the expert-parallel group pair the same tensor-parallel
rank of every DP rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from simulation.network import Call
from simulation.until_0_11.releases import THIS

ALL_GATHER, ALL_TO_ALL, MC2, NAIVE_MULTICAST = "AllGather", "All2All", "MC2", "NaiveMulticast"
_GENERIC = {
    "allgathercommimpl": ALL_GATHER,
    "alltoallcommimpl": ALL_TO_ALL,
    "mc2commimpl": MC2,
    "ALLGATHER": ALL_GATHER,
    "ALLTOALL": ALL_TO_ALL,
    "MC2": MC2,
    "NAIVE_MULTICAST": NAIVE_MULTICAST,
}


def of_generic(name: str) -> str:
    """The method of a generic layer's communication object, or of its type since 0.11.0."""
    return _GENERIC[name]


def of_state(name: str, shared_expert_dp: bool) -> str:
    """The method of a custom layer whose forward context has the state ``name``."""
    return ALL_TO_ALL if name == MC2 and shared_expert_dp and THIS.shared_experts_avoid_mc2 else name


def tokens_per_rank(metadata: Any) -> list[int]:
    """The ranks' rows in vLLM's DPMetadata, which holds their sums up to 0.10.1.1."""
    if hasattr(metadata, "num_tokens_across_dp_cpu"):
        return list(metadata.num_tokens_across_dp_cpu.tolist())
    return [end - start for start, end in pairwise([0, *metadata.cu_tokens_across_dp_cpu.tolist()])]


def layer(method: str, context: Any, rows: int, dp: int, pads: bool = True) -> Iterator[Call]:
    """What one layer issues for ``rows`` rows.

    ``pads`` says that the layer itself pads its rows for MC2.
    """
    if method == MC2:
        sent = max(rows, context.padded_num_tokens) if pads else rows
        yield Call("ep", "mc2_dispatch", (sent,))
        yield Call("ep", "mc2_combine", (sent,))
    elif method == ALL_TO_ALL:
        yield Call("ep", "all_gather")
        yield Call("ep", "all_to_all")
        yield Call("ep", "all_to_all")
    elif dp == 1:
        return
    elif method == ALL_GATHER and getattr(context, "sp_enabled", False):
        yield Call("ep", "all_gather", (context.padded_length,))
        yield Call("ep", "all_gather", (context.padded_length,))
        yield Call("ep", "reduce_scatter", (context.padded_length * dp,))
    elif method == ALL_GATHER:
        padded = max(rows, context.max_tokens_across_dp)
        yield Call("dp device", "all_gather", (padded,))
        yield Call("dp device", "all_gather", (padded,))
        yield Call("dp device", "reduce_scatter", (padded * dp,))
    elif method == NAIVE_MULTICAST:
        sizes = tokens_per_rank(context.dp_metadata)
        for _ in range(2):
            for root, size in enumerate(sizes):
                yield Call("dp device", f"broadcast from {root}", (size,))
        yield Call("dp device", "all_reduce", (sum(sizes),))
