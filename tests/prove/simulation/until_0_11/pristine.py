# SPDX-License-Identifier: Apache-2.0
"""A rank of a pristine release: its own methods, called as its `_prepare_inputs`, `execute_model` and drafters do."""

from __future__ import annotations

from inspect import signature
from typing import Any

from simulation.schedule import Drafter, Mode, Row
from simulation.until_0_11 import graphs, wire
from simulation.until_0_11.model import Rows
from simulation.until_0_11.releases import THIS
from simulation.until_0_11.runner import BASES, Rank, torchair_runner

MC2_ROWS_OF_MASK = 512


class _Pristine(Rank):
    _sync_metadata_across_dp: Any
    _get_forward_metadata_across_dp_and_pad: Any
    _select_moe_comm_method: Any

    def mc2_capacity(self) -> int:
        return self.mc2_capacity_of_runner() or MC2_ROWS_OF_MASK * self.deployment.tp

    def generic_method(self, context: Any) -> str:
        if self.deployment.ep_size < THIS.generic_min_ep_size:
            return wire.ALL_GATHER
        return self.method_of_context(context)

    def chosen(self, rows: int, with_prefill: bool) -> dict[str, Any]:
        """The choice for generic layers, under the names by which contexts take it."""
        arguments = (rows, with_prefill)[: len(signature(self._select_moe_comm_method).parameters)]
        choice = self._select_moe_comm_method(*arguments)
        return {"moe_comm_method": choice, "moe_comm_type": choice}

    def after_attention_state(self, rows: tuple[Row, ...], scheduled: Any) -> None:
        self.fill_seq_lens(rows, scheduled)

    def synchronised(self, *described: Any) -> Any:
        """Rows, counts, with_prefill and enable_dbo, by the method that the release has."""
        if THIS.whole_step:
            return self._get_forward_metadata_across_dp_and_pad(*described)
        return self._sync_metadata_across_dp(*described)

    def execute(self, rows: tuple[Row, ...], rejected: int) -> None:
        if THIS.whole_step:
            tokens = self.process(rows)
            self._draft(len(rows), tokens - rejected, tokens)
            return
        tokens, with_prefill, enable_dbo = self.describe(rows)
        padded, across, with_prefill, _ = self.synchronised(self.padded(tokens), with_prefill, enable_dbo)
        self.with_prefill, self.num_tokens_across_dp = with_prefill, across
        if not with_prefill:
            self.graph_pad_size = padded
        choice = self.chosen(padded, with_prefill)
        decodes = THIS.full_decode_graphs and self.decodes
        mode, descriptor = self.aclgraph_dispatcher.dispatch(graphs.key(padded, decodes))
        self.forward(
            self.model,
            padded,
            tokens,
            num_tokens_across_dp=across,
            with_prefill=with_prefill,
            reserved_mc2_mask=self.reserved_mc2_mask,
            **choice,
            aclgraph_runtime_mode=mode,
            batch_descriptor=descriptor,
            num_actual_tokens=tokens,
        )
        logits = sum(1 + row.drafts for row in rows)
        self.gather_logits(logits, self._lmhead_rows(padded, logits))
        for row in rows:
            if (prompted := min(row.scheduled, row.prompt - row.computed - 1)) > 0 and self.deployment.lmhead_parallel:
                self.model.compute_logits(Rows(prompted), None)
        self._draft(len(rows), tokens - rejected, tokens)

    def _draft(self, requests: int, kept: int, tokens: int) -> None:
        if self.deployment.drafter is Drafter.MTP:
            across, with_prefill = self.num_tokens_across_dp, self.with_prefill
            if self.deployment.mode is Mode.TORCHAIR:
                kept, drafted = tokens, tokens if with_prefill else self.graph_pad_size
            else:
                drafted, across, with_prefill, _ = self.synchronised(self.padded(kept), with_prefill, False)
            choice = self.chosen(drafted, with_prefill) if THIS.drafters_choose else {}
            for _ in range(1 if with_prefill else self.deployment.drafts):
                self.forward(
                    self.drafter.model,
                    drafted,
                    kept,
                    num_tokens_across_dp=across,
                    with_prefill=with_prefill,
                    reserved_mc2_mask=self.reserved_mc2_mask,
                    num_actual_tokens=kept,
                    **choice,
                )
                self.gather_logits(requests, self._lmhead_rows(drafted, requests))
        elif self.deployment.drafter is Drafter.EAGLE:
            for rows in (kept, *[requests] * (self.deployment.drafts - 1)):
                self.forward(self.drafter.model, self.padded(rows), 0, with_prefill=True)
                self.gather_logits(requests, requests)

    def _lmhead_rows(self, padded: int, needed: int) -> int:
        if not self.deployment.lmhead_parallel:
            return needed
        return self.max_num_reqs if self.with_prefill else padded


class PristineRank(_Pristine, BASES[False]):  # type: ignore[misc]
    """Upstream's runner."""


class PristineTorchairRank(_Pristine, BASES[True]):  # type: ignore[misc]
    """TorchAir's."""


def make(deployment: Any, rank: int) -> Rank:
    """A rank; raises where the tree cannot be started with the deployment."""
    kind = PristineTorchairRank if torchair_runner(deployment) else PristineRank
    return kind(deployment, rank)  # type: ignore[no-any-return]
