# SPDX-License-Identifier: Apache-2.0
"""Logits of the rows of prompts whose logprobs are asked for, where the lm head is split over DP ranks.

A parallel lm head gathers the rows of all ranks, and only one of them may have such a prompt. So it runs in rounds of
one size, and the metadata of the step says how many: every rank joins the rounds that any rank needs. Chunks of a
prompt come in steps of their own, with rounds of their own.
"""

from __future__ import annotations

from typing import Any

import torch

from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.plan import StepPlan

ROWS_PER_ROUND = 128
"""Rows of a rank in one round: what bounds the memory of its logits."""


def prompt_rows(prompt_tokens: int, computed_tokens: int, scheduled_tokens: int) -> int:
    """Rows of this step whose logits belong to a prompt: each predicts the next token of the prompt, the last none."""
    return max(0, min(scheduled_tokens, prompt_tokens - computed_tokens - 1))


def rounds_for(rows: int) -> int:
    """Rounds for so many rows of one prompt."""
    return -(-rows // ROWS_PER_ROUND)


def most_rounds(max_num_tokens: int, max_num_reqs: int) -> int:
    """An upper bound of a step's rounds: the last of each request may be nearly empty."""
    return max_num_tokens // ROWS_PER_ROUND + max_num_reqs


class PromptLogits:
    """Mixin of ``NPUModelRunner``: what its ``_get_prompt_logprobs_dict`` and its idle steps call."""

    model: Any
    requests: Any
    input_batch: Any
    step: StepPlan

    _rounds_done: int = 0

    def _prompt_rounds(self, scheduler_output: Any) -> int:
        """Rounds that the prompts of this rank need in the step."""
        if not upstream.lm_head_parallel():
            return 0
        scheduled = scheduler_output.num_scheduled_tokens
        asked = [(self.requests[name], scheduled[name]) for name in self.input_batch.num_prompt_logprobs]
        return sum(
            rounds_for(prompt_rows(len(request.prompt_token_ids), request.num_computed_tokens, count))
            for request, count in asked
        )

    def prompt_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits of a prompt's rows: ``[n, width]`` to ``[n, vocabulary]``."""
        if not upstream.lm_head_parallel():
            return upstream.compute_logits(self.model, hidden_states)
        pieces = hidden_states.split(ROWS_PER_ROUND)
        self._rounds_done += len(pieces)
        return torch.cat([self._round(piece) for piece in pieces])

    def join_prompt_logits(self, hidden_states: torch.Tensor) -> None:
        """Take part in the rounds of the step that other ranks still need; of ``hidden_states`` the width counts."""
        for _ in range(self.step.metadata.prompt_rounds - self._rounds_done):
            self._round(hidden_states[:0])
        self._rounds_done = 0

    def _round(self, rows: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(rows, (0, 0, 0, ROWS_PER_ROUND - rows.shape[0]))
        return upstream.compute_logits(self.model, padded)[: rows.shape[0]]
