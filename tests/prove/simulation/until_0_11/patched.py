# SPDX-License-Identifier: Apache-2.0
"""A rank of the patched tree: what its hooks in `_prepare_inputs`, `execute_model` and the drafters call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simulation.schedule import Drafter, Layers, Mode, Row
from simulation.until_0_11.model import Model, Rows
from simulation.until_0_11.releases import THIS
from simulation.until_0_11.runner import BASES, Rank, hidden_rows, torchair_runner
from vllm_ascend.data_parallel import runner
from vllm_ascend.data_parallel.moe_comm import mc2_capacity
from vllm_ascend.data_parallel.prompt_logits import ROWS_PER_ROUND, prompt_rows
from vllm_ascend.data_parallel.settings import MetadataGroup, Settings


def _metadata_group(_: Any, settings: Settings) -> str:
    """The group's name in the simulated network, where no rank has to wait for another's start."""
    return "dp cpu" if settings.metadata_group is MetadataGroup.CPU else "dp device"


runner.metadata_group = _metadata_group


class _Patched(Rank):
    step: Any
    lmhead_rows: int
    pad_lmhead: Any
    _issue_real_step: Any
    _await_step: Any
    _prompt_rounds: Any
    prompt_logits: Any
    join_prompt_logits: Any
    _dispatch_graph: Any

    @property
    def rounds_needed(self) -> int:
        return 0 if self.deployment.agrees_on_nothing else 1

    def mc2_capacity(self) -> int:
        return self.mc2_capacity_of_runner() or mc2_capacity(self.deployment.soc, self.deployment.tp)

    def generic_method(self, context: Any) -> str:
        return self.method_of_context(context)

    def _round(self, rows: Any) -> Any:
        """One round of the lm head for prompts, in which only the number of rows matters."""
        self.model.compute_logits(Rows(ROWS_PER_ROUND), None)
        return hidden_rows[: rows.shape[0]]

    def before_attention_state(self, rows: tuple[Row, ...], scheduled: Any) -> None:
        self.fill_seq_lens(rows, scheduled)

    def execute(self, rows: tuple[Row, ...], rejected: int) -> None:
        if THIS.whole_step:
            tokens = self.process(rows)
            agreed = {"num_tokens_across_dp": self.num_tokens_across_dp, "with_prefill": self.with_prefill}
            self._draft(len(rows), tokens - rejected, tokens, agreed)
            return
        tokens, with_prefill, enable_dbo = self.describe(rows)
        asked = {str(number): row for number, row in enumerate(rows) if row.prompt}
        self.requests = {
            name: SimpleNamespace(prompt_token_ids=range(row.prompt), num_computed_tokens=row.computed)
            for name, row in asked.items()
        }
        self.input_batch.num_prompt_logprobs = asked
        scheduled = SimpleNamespace(num_scheduled_tokens={name: row.scheduled for name, row in asked.items()})
        rounds = self._prompt_rounds(scheduled)
        step = self._await_step(
            self._issue_real_step(self.splittable(tokens), with_prefill, enable_dbo, self.decodes, rounds)
        )
        self.with_prefill, self.num_tokens_across_dp = step.with_prefill, step.num_tokens_across_dp
        if not step.with_prefill:
            self.graph_pad_size = step.num_input_tokens
        mode, descriptor = self._dispatch_graph(step.num_input_tokens)
        agreed = {"num_tokens_across_dp": self.num_tokens_across_dp, "with_prefill": self.with_prefill}
        self.forward(
            self.model,
            step.num_input_tokens,
            tokens,
            reserved_mc2_mask=self.reserved_mc2_mask,
            aclgraph_runtime_mode=mode,
            batch_descriptor=descriptor,
            num_actual_tokens=tokens,
            **agreed,
        )
        logits = sum(1 + row.drafts for row in rows)
        self.gather_logits(logits, self.lmhead_rows if self.deployment.lmhead_parallel else logits)
        for row in asked.values():
            if self.deployment.lmhead_parallel and (count := prompt_rows(row.prompt, row.computed, row.scheduled)):
                self.prompt_logits(hidden_rows[:count])
        self.join_prompt_logits(Rows(tokens))
        self._draft(len(rows), tokens - rejected, tokens, agreed)

    def forward(self, model: Model, rows: int, tokens: int, **context: Any) -> None:
        """Where attention scatters a rank's tokens (shared-expert DP), rows that nothing needs are none of them."""
        one = self.deployment
        scatters = one.shared_expert_dp and one.tp > 1 and one.layers is Layers.CUSTOM
        if scatters and rows > tokens > 0 and self.step.uniform_size is None:
            self.exceed(f"attention scatters {tokens} tokens, and has {rows} rows")
        super().forward(model, rows, tokens, **context)

    def _draft(self, requests: int, kept: int, tokens: int, agreed: dict[str, Any]) -> None:
        if self.deployment.drafter is Drafter.MTP:
            if self.deployment.mode is Mode.TORCHAIR:
                kept, drafted = tokens, tokens if self.with_prefill else self.graph_pad_size
            else:
                drafted, counts = self.step.drafter_rows(self.padded(kept))
                agreed |= {"num_tokens_across_dp": counts}
            # A prefill's first draft stands for all.
            for _ in range(1 if self.with_prefill else self.deployment.drafts):
                self.forward(
                    self.drafter.model,
                    drafted,
                    kept,
                    reserved_mc2_mask=self.reserved_mc2_mask,
                    num_actual_tokens=kept,
                    **agreed,
                )
                self.gather_logits(requests, self.lmhead_rows if self.deployment.lmhead_parallel else requests)
        elif self.deployment.drafter is Drafter.EAGLE:
            for rows in (self.padded(kept), *[self.padded(requests)] * (self.deployment.drafts - 1)):
                agreed = {
                    "num_tokens_across_dp": self.step.with_rows(rows),
                    "with_prefill": self.step.with_prefill,
                }
                self.forward(self.drafter.model, rows, 0, **agreed)
                self.gather_logits(requests, self.pad_lmhead(hidden_rows[:requests]).shape[0])


class PatchedRank(_Patched, BASES[False]):  # type: ignore[misc]
    """Upstream's runner with the overlay's mixin."""


class PatchedTorchairRank(_Patched, BASES[True]):  # type: ignore[misc]
    """TorchAir's."""


def make(deployment: Any, rank: int) -> Rank:
    """A rank; raises `ValueError` where the tree refuses the deployment."""
    kind = PatchedTorchairRank if torchair_runner(deployment) else PatchedRank
    return kind(deployment, rank)  # type: ignore[no-any-return]
