# SPDX-License-Identifier: Apache-2.0
"""A model that issues the collectives of its layers, and computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.config import CUDAGraphMode
from vllm.forward_context import get_forward_context

from simulation import groups, world
from simulation.record import Forward
from simulation.schedule import Layers, Mode
from simulation.since_0_18 import wire
from simulation.since_0_18.configuration import MOST_ROWS
from simulation.since_0_18.releases import THIS, gathers
from vllm_ascend import utils

if TYPE_CHECKING:
    from simulation.since_0_18.rank import Rank

# Shared by all: their contents decide nothing.
hidden_rows = torch.zeros((MOST_ROWS, 1))

_KINDS = {
    CUDAGraphMode.NONE: "",
    CUDAGraphMode.PIECEWISE: Mode.ACL_GRAPH.value,
    CUDAGraphMode.FULL: Mode.FULL_DECODE.value,
}


class Model:
    """The target, or with ``what`` "drafter" a drafter; one without ``experts`` is dense."""

    def __init__(self, rank: Rank, what: str, experts: bool, returns_tuple: bool = False) -> None:
        self.rank, self.what, self.experts, self._returns_tuple = rank, what, experts, returns_tuple

    def modules(self) -> list[torch.nn.Module]:
        """None: what matters of its layers its configuration says."""
        return []

    def __call__(self, **arguments: Any) -> Any:
        rank, context = self.rank, get_forward_context()
        deployment, network = rank.deployment, world.network()
        rows = arguments["input_ids"].shape[0]
        graph = context.cudagraph_runtime_mode
        moe = context.moe_comm_type.name if self.experts else ""
        if self.experts:
            rank.record.forwards.append(
                Forward(
                    step=rank.step_number,
                    what=self.what,
                    graph=_KINDS[graph],
                    moe=moe,
                    with_prefill=False,
                    rows=rows,
                    uniform=self._needs_uniform(moe, graph),
                    exchanged=any(rank.said()),
                )
            )
        self._check(rows, moe, context)
        calls = [
            *(wire.embedding(self._embedded(rows), deployment.dp) if deployment.embedding_parallel else ()),
            *(groups.o_proj(rows, deployment.dp) if deployment.oproj_parallel and self._projects(rows) else ()),
            *(groups.mlp(rows, deployment.dp) if deployment.mlp_parallel and self._has_dense_mlps else ()),
        ]
        if moe:
            calls += wire.layer(
                moe,
                context,
                rows,
                deployment.dp,
                replays=graph is not CUDAGraphMode.NONE,
                any_rows=rank.skips,
                by_pass=deployment.sequence_pass,
            )
        for call in calls:
            network.issue(call)
        hidden = hidden_rows[:rows]
        return (hidden, hidden) if self._returns_tuple else hidden

    def compute_logits(self, hidden: torch.Tensor, *_: Any) -> torch.Tensor:
        """The lm head: gathers over its group where it is parallel."""
        deployment = self.rank.deployment
        if deployment.lmhead_parallel:
            for call in wire.lm_head(hidden.shape[0], deployment.dp):
                world.network().issue(call)
        return hidden

    @property
    def _has_dense_mlps(self) -> bool:
        """Whether it has MLPs beside its experts, as DeepSeek's first layers are; the layer of MTP has none."""
        return self.what == "target" or not self.experts

    def _projects(self, rows: int) -> bool:
        """Whether the output projection is run on ``rows`` rows.

        DeepSeek's attention runs it itself, and in an idle step has metadata in a full graph alone: there upstream's
        own is asked.
        """
        context, inside = get_forward_context(), self.experts and self.rank.deployment.layers is Layers.CUSTOM
        attends = context.cudagraph_runtime_mode is CUDAGraphMode.FULL or context.attn_metadata is not None
        return attends or not inside or wire.idle_attention_projects(rows)

    def _embedded(self, rows: int) -> int:
        """How many of ``rows`` rows a parallel embedding exchanges: all of them, or all that it could take."""
        taken: int = utils.get_potential_max_tokens() if THIS.constant_embedding else rows
        if rows > taken:
            self.rank.exceed(f"{rows} rows for an embedding of {taken}")
        return taken

    def _needs_uniform(self, moe: str, graph: CUDAGraphMode) -> bool:
        """Whether some layer wants as many rows on every rank."""
        one = self.rank.deployment
        captured = graph is not CUDAGraphMode.NONE and (
            moe == wire.ALL_GATHER or (moe == wire.MC2 and not self.rank.skips)
        )
        return gathers(one) or (one.sequence_pass and moe == wire.ALL_GATHER) or captured

    def _check(self, rows: int, moe: str, context: Any) -> None:
        rank, deployment = self.rank, self.rank.deployment
        graph = context.cudagraph_runtime_mode
        splits = deployment.sequence_parallel or deployment.sequence_pass or deployment.shared_expert_dp
        if rows > deployment.max_num_batched_tokens:
            rank.exceed(f"{rows} rows for buffers of {deployment.max_num_batched_tokens}")
        if graph is not CUDAGraphMode.NONE and context.batch_descriptor.num_tokens != rows:
            rank.exceed(f"a graph of {context.batch_descriptor.num_tokens} for {rows} rows")
        if self.what == "target":
            if splits and rows % deployment.tp:
                rank.exceed(f"{rows} rows over {deployment.tp} tensor-parallel ranks")
            if graph is CUDAGraphMode.FULL and not rank.decodes:
                rank.exceed("a graph of decodes for another batch")
            if rows < rank.tokens:
                rank.exceed(f"{rows} rows for {rank.tokens} tokens")
            asked = splits or gathers(deployment) or graph is not CUDAGraphMode.NONE
            if rows > rank.tokens and not asked:
                rank.record.padded.append((rank.step_number, f"{rows} rows for {rank.tokens} tokens"))
        if moe == wire.MC2:
            taken = groups.MC2_ROWS[deployment.soc]
            largest = -(-context.padded_num_tokens // deployment.tp)
            if largest > taken:
                rank.exceed(f"MC2's kernel takes {taken} rows, not {largest}")
            if context.mc2_mask.shape[0] != context.padded_num_tokens:
                rank.exceed(f"a mask of {context.mc2_mask.shape[0]} for {context.padded_num_tokens} rows of MC2")
