# SPDX-License-Identifier: Apache-2.0
"""Engine runs that decode speculatively, and the lm-head parallelism that goes wrong with it."""

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import drafters
from checkpoints import Model
from job import DP1_ROUNDS, DP2_ROUNDS, EngineRun, Round, Tree
from reference import PROMPTS

_EVERY_PROMPT = tuple(range(len(PROMPTS)))
# The same batch on both ranks, in lockstep to the end: nothing here depends on what ranks tell each other.
ALIKE_ROUND = Round("alike", (_EVERY_PROMPT[:1], _EVERY_PROMPT[:1]))
_ALL_BUT_ONE = _EVERY_PROMPT[:-1]
# The same on both ranks, and the last prompt joins the others while they verify drafts: more logits than requests.
MIXED_ROUND = Round("prefill among drafts", (_ALL_BUT_ONE, _ALL_BUT_ONE), late=(_EVERY_PROMPT[-1:], _EVERY_PROMPT[-1:]))
# Both ranks are busy from the first step to the last, and have different numbers of requests.
UNEQUAL_ROUND = Round("two beside one", (_EVERY_PROMPT[:2], _EVERY_PROMPT[:1]))
# Beside longer prompts, vllm-ascend 0.10.0's drafter takes one of a single token for a decode, and mixes up its rows.
MTP_ROUNDS = tuple(
    turn if sum(map(len, turn.prompts)) == 1 else turn.of(lambda index: len(PROMPTS[index]) > 1) for turn in DP2_ROUNDS
)
# Rank 0 decodes as many requests as it may hold, each with a draft, when rank 1 begins to prefill.
FULL_DECODE_ROUND = Round("full decode beside a prefill", (_EVERY_PROMPT, ()), late=((), (3,)))
ONE_REQUEST_ROUNDS = tuple(turn for turn in DP2_ROUNDS if turn.name == "one prompt")


class Drafter(Enum):
    MTP = "MTP"
    EAGLE3 = "Eagle3"


@dataclass(frozen=True)
class DraftedRun(EngineRun):
    """A run whose engine drafts tokens with ``drafter`` and, if asked, splits its lm head over the DP ranks."""

    drafter: Drafter = Drafter.MTP
    lmhead_parallel: bool = False
    chunked_prefill: bool = False
    """Use vLLM's own scheduler, which puts prefills and decodes into one batch."""
    upstreams_logits: bool = False
    """Run vllm-ascend's LogitsProcessor even where vLLM cannot register it."""

    @property
    def script(self) -> str:
        return "rank_with_upstreams_logits" if self.upstreams_logits else super().script

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        parts = [run, self.drafter.value] + ["lm-head parallel"] * self.lmhead_parallel
        parts += ["chunked prefill"] * self.chunked_prefill
        return ", ".join(parts + ["vLLM's logits replaced"] * self.upstreams_logits) + f" on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        target = Path(checkpoint)
        match self.drafter:
            case Drafter.MTP:
                arguments["model"] = str(drafters.with_mtp_layer(target))
                arguments["speculative_config"] = {"method": "deepseek_mtp", "num_speculative_tokens": 1}
            case Drafter.EAGLE3:
                # Two drafts, the most that upstream has: only the second forward is one more than an idle rank's.
                # Its attention mask has no float32.
                arguments["dtype"] = "float16"
                head = {"method": "eagle3", "model": str(drafters.eagle3_head(target)), "num_speculative_tokens": 2}
                arguments["speculative_config"] = head
        if self.chunked_prefill:
            arguments |= {"dtype": "float16", "additional_config": {}}
        if self.lmhead_parallel:
            split = {"lmhead_tensor_parallel_size": self.dp_size}
            arguments["additional_config"] |= split | {"finegrained_tp_config": split}  # as later releases read it
        return arguments


MTP = DraftedRun(Tree.PATCHED, Model.DEEPSEEK_V3, rounds=MTP_ROUNDS)
# With experts in parallel every step of MoE is an all-to-all: without the patches nothing else goes wrong.
MTP_EP = DraftedRun(Tree.PATCHED, Model.DEEPSEEK_V3, expert_parallel=True, rounds=MTP_ROUNDS)
PRISTINE_MTP_EP = DraftedRun(Tree.PRISTINE, Model.DEEPSEEK_V3, expert_parallel=True, rounds=MTP_ROUNDS)

EAGLE3 = DraftedRun(Tree.PATCHED, Model.LLAMA, drafter=Drafter.EAGLE3)
PRISTINE_EAGLE3 = DraftedRun(Tree.PRISTINE, Model.LLAMA, drafter=Drafter.EAGLE3, rounds=ONE_REQUEST_ROUNDS)
PRISTINE_EAGLE3_ALONE = DraftedRun(Tree.PRISTINE, Model.LLAMA, drafter=Drafter.EAGLE3, rounds=DP1_ROUNDS)


def _lmhead(tree: Tree, *rounds: Round, **settings: bool) -> DraftedRun:
    return DraftedRun(tree, Model.DEEPSEEK_V3, expert_parallel=True, lmhead_parallel=True, rounds=rounds, **settings)


LMHEAD = _lmhead(Tree.PATCHED, *DP2_ROUNDS, FULL_DECODE_ROUND)
LMHEAD_KV_BOTH = _lmhead(Tree.PATCHED, *ONE_REQUEST_ROUNDS, kv_both=True)
PRISTINE_LMHEAD = _lmhead(Tree.PRISTINE, ALIKE_ROUND)
LMHEAD_EAGLE3 = DraftedRun(Tree.PATCHED, Model.LLAMA, drafter=Drafter.EAGLE3, lmhead_parallel=True)
LMHEAD_MIXED = _lmhead(Tree.PATCHED, ALIKE_ROUND, MIXED_ROUND, chunked_prefill=True)
PRISTINE_LMHEAD_MIXED = _lmhead(Tree.PRISTINE, ALIKE_ROUND, MIXED_ROUND, chunked_prefill=True, upstreams_logits=True)
# A KV producer's idle rank calls its batch a prefill, so its lm-head rows are those of the rank that does prefill.
PRISTINE_LMHEAD_KV_BOTH = _lmhead(Tree.PRISTINE, *ONE_REQUEST_ROUNDS, kv_both=True, upstreams_logits=True)
PRISTINE_LMHEAD_EAGLE3 = replace(LMHEAD_EAGLE3, tree=Tree.PRISTINE, rounds=(UNEQUAL_ROUND,), upstreams_logits=True)
