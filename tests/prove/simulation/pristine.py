# SPDX-License-Identifier: Apache-2.0
"""A rank of pristine v0.10.1rc1: its own methods, called as its `_prepare_inputs`, `execute_model` and drafters do."""

from __future__ import annotations

from typing import Any

from vllm.forward_context import BatchDescriptor

from simulation import wire
from simulation.runner import BASES, Rank, Rows
from simulation.schedule import Drafter, Mode, Row

MC2_ROWS_OF_MASK = 512
MC2_MIN_EP_SIZE = 16


class _Pristine(Rank):
    _sync_metadata_across_dp: Any
    _select_moe_comm_method: Any

    def mc2_capacity(self) -> int:
        return MC2_ROWS_OF_MASK * self.deployment.tp

    def generic_method(self, context: Any) -> str:
        if self.deployment.ep_size < MC2_MIN_EP_SIZE:
            return wire.ALL_GATHER
        return wire.of_implementation(context.moe_comm_method_name)

    def after_attention_state(self, rows: tuple[Row, ...], scheduled: Any) -> None:
        self.fill_seq_lens(rows, scheduled)

    def execute(self, rows: tuple[Row, ...], rejected: int) -> None:
        tokens, with_prefill, enable_dbo = self.describe(rows)
        padded, across, with_prefill, _ = self._sync_metadata_across_dp(self._padded(tokens), with_prefill, enable_dbo)
        self.with_prefill, self.num_tokens_across_dp = with_prefill, across
        if not with_prefill:
            self.graph_pad_size = padded
        method = self._select_moe_comm_method(padded)
        mode, descriptor = self.aclgraph_dispatcher.dispatch(BatchDescriptor(num_tokens=padded, uniform_decode=False))
        self.forward(
            self.model,
            padded,
            tokens,
            num_tokens_across_dp=across,
            with_prefill=with_prefill,
            reserved_mc2_mask=self.reserved_mc2_mask,
            moe_comm_method=method,
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
                drafted, across, with_prefill, _ = self._sync_metadata_across_dp(kept, with_prefill, False)
            self.forward(
                self.drafter.model,
                drafted,
                kept,
                num_tokens_across_dp=across,
                with_prefill=with_prefill,
                reserved_mc2_mask=self.reserved_mc2_mask,
                num_actual_tokens=kept,
            )
            self.gather_logits(requests, self._lmhead_rows(drafted, requests))
        elif self.deployment.drafter is Drafter.EAGLE:
            for rows in (kept, *[requests] * (self.deployment.drafts - 1)):
                self.forward(self.drafter.model, self._padded(rows), 0, with_prefill=True)
                self.gather_logits(requests, requests)

    def _padded(self, tokens: int) -> int:
        if self.use_aclgraph and tokens <= self.aclgraph_batch_sizes[-1]:
            return int(self.vllm_config.pad_for_cudagraph(tokens))
        return tokens

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
    kind = PristineTorchairRank if deployment.mode is Mode.TORCHAIR else PristineRank
    return kind(deployment, rank)  # type: ignore[no-any-return]
