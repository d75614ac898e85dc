# SPDX-License-Identifier: Apache-2.0
"""A model that issues the collectives of its layers, and computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.forward_context import get_forward_context

from simulation import groups, world
from simulation.network import Call
from simulation.record import Forward
from simulation.schedule import Layers, Mode
from simulation.until_0_11 import graphs, wire

if TYPE_CHECKING:
    from simulation.until_0_11.runner import Rank


class Rows:
    """Hidden states or logits of which only the number matters."""

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def shape(self) -> tuple[int]:
        return (self.count,)

    def __getitem__(self, index: Any) -> Rows:
        return Rows(len(range(self.count)[index] if isinstance(index, slice) else index))


class Model:
    """A model whose forward issues its layers' collectives, and computes nothing."""

    def __init__(self, rank: Rank, what: str, layers: Layers) -> None:
        self.rank, self.what, self.layers = rank, what, layers

    def modules(self) -> list[torch.nn.Module]:
        """None: what matters of its layers its configuration says."""
        return []

    def __call__(self, **arguments: Any) -> Rows:
        rank, context = self.rank, get_forward_context()
        deployment, network = rank.deployment, world.network()
        rows = arguments["input_ids"].shape[0]
        graph = "TorchAir" if rank.compiled else ""
        if self.what == "target" and (replayed := self._replayed(context, rows)) is not None:
            graph = str(replayed)
            if replayed.rows != rows:
                rank.exceed(f"a graph of {replayed.rows} for {rows} rows")
            if replayed.kind is Mode.FULL_DECODE and not rank.decodes:
                rank.exceed("a graph of decodes for another batch")
        moe = self._method(context)
        pads = not deployment.shared_expert_dp
        # A dense drafter's forward joins nobody, and its graph is its own.
        if self.what == "target" or self.layers is not Layers.DENSE:
            rank.record.forwards.append(
                Forward(
                    step=rank.step_number,
                    what=self.what,
                    graph=graph,
                    moe=moe,
                    with_prefill=context.with_prefill,
                    rows=rows,
                    uniform=bool(graph) or self._needs_uniform(moe, pads),
                    exchanged=any(rank.said()),
                )
            )
        self._check_buffers(rows, moe, context)
        if deployment.mlp_parallel:
            for call in groups.mlp(rows, deployment.dp):
                network.issue(call)
        if deployment.oproj_parallel:
            for call in groups.o_proj(rows, deployment.dp):
                network.issue(call)
        if moe:
            for call in wire.layer(moe, context, rows, deployment.dp, pads):
                network.issue(call)
        return Rows(rows)

    def compute_logits(self, hidden: Rows | torch.Tensor, _: Any = None) -> Rows:
        """The lm head: gathers over its group where it is parallel."""
        deployment = self.rank.deployment
        rows = hidden.count if isinstance(hidden, Rows) else hidden.shape[0]
        if deployment.lmhead_parallel:
            world.network().issue(Call("lm head", "all_gather", (rows,)))
            world.network().issue(Call("lm head", "all_to_all", (rows * deployment.dp,)))
        return Rows(rows)

    def _replayed(self, context: Any, rows: int) -> graphs.Replayed | None:
        return graphs.replayed(context, rows, self.rank.aclgraph_batch_sizes)

    def _needs_uniform(self, moe: str, pads: bool) -> bool:
        """Whether some layer wants as many rows on every rank. No compiled graph holds each rank's own padding."""
        one = self.rank.deployment
        compiled = one.sequence_parallel and one.mode.acl_graphs
        return one.mlp_parallel or one.oproj_parallel or compiled or (moe == wire.MC2 and not pads)

    def _method(self, context: Any) -> str:
        if self.layers is Layers.CUSTOM:
            return wire.of_state(context.fused_moe_state.name, self.rank.deployment.shared_expert_dp)
        return self.rank.generic_method(context) if self.layers is Layers.GENERIC else ""

    def _check_buffers(self, rows: int, moe: str, context: Any) -> None:
        rank, deployment = self.rank, self.rank.deployment
        if rows > deployment.max_num_batched_tokens:
            rank.exceed(f"{rows} rows for buffers of {deployment.max_num_batched_tokens}")
        if deployment.sequence_parallel and deployment.mode.acl_graphs and rows % deployment.tp:
            rank.exceed(f"{rows} rows over {deployment.tp} tensor-parallel ranks")
        if moe == wire.NAIVE_MULTICAST and deployment.dp > 1:
            counted = wire.tokens_per_rank(context.dp_metadata)[rank.dp_rank]
            if counted != rows:
                rank.exceed(f"the ranks count on {counted} rows of {rows}")
        if moe == wire.MC2:
            taken = groups.MC2_ROWS.get(deployment.soc, 0)
            largest = -(-context.padded_num_tokens // deployment.tp)
            if largest > taken:
                rank.exceed(f"MC2's kernel takes {taken} rows, not {largest}")
            if context.mc2_mask.shape[0] != context.padded_num_tokens:
                rank.exceed(f"a mask of {context.mc2_mask.shape[0]} for {context.padded_num_tokens} rows of MC2")
