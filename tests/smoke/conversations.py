# SPDX-License-Identifier: Apache-2.0
"""Conversations of two turns: the second begins with all of the first, which a prefix cache then holds.

The first turn ends where a block of the KV cache does: its last step writes the last slot of a block that the second
turn reads from the cache. Whatever writes there between the turns shows in the second answer.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checkpoints import VOCABULARY, Model
from job import MAX_TOKENS, EngineRun, Mode, Round, Tree

BLOCK = 128
"""Tokens of a block of the KV cache, the one size that upstream's attention takes with a prefix cache."""
FIRST_ANSWER, SECOND_ANSWER = 9, 8
# The last token of an answer is not computed until the next turn.
_PROMPT = BLOCK - FIRST_ANSWER + 1
CONVERSATIONS = 6
# A token whose best logit leads by less proves nothing: other prompts are drawn instead.
_MARGIN = 0.05
# Rank 1 decodes for as long as rank 0 converses: see conversing.py.
_MEANWHILE = 140


@dataclass(frozen=True)
class Conversation:
    """Token ids of two turns; an answer is what Hugging Face's model gives."""

    first: tuple[int, ...]
    first_answer: tuple[int, ...]
    question: int
    second_answer: tuple[int, ...]

    @property
    def second(self) -> tuple[int, ...]:
        """The prompt of the second turn."""
        return (*self.first, *self.first_answer, self.question)


def drawn(checkpoint: Path) -> tuple[Conversation, ...]:
    """``CONVERSATIONS`` of the model in ``checkpoint``, each token beyond doubt; computed once for each checkpoint."""
    wanted = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    cache = checkpoint / f"conversations-{wanted}.json"
    if not cache.is_file():
        partial = cache.with_suffix(".partial")
        partial.write_text(json.dumps([asdict(one) for one in _draw(checkpoint)]))
        partial.rename(cache)
    return tuple(
        Conversation(tuple(one["first"]), tuple(one["first_answer"]), one["question"], tuple(one["second_answer"]))
        for one in json.loads(cache.read_text())
    )


def _draw(checkpoint: Path) -> list[Conversation]:
    import torch
    from transformers import AutoModelForCausalLM

    net: Any = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=torch.float32).eval()

    def answer(prompt: tuple[int, ...], tokens: int) -> tuple[int, ...]:
        """Shorter than ``tokens`` where one of them is in doubt."""
        ids = list(prompt)
        while len(ids) < len(prompt) + tokens:
            with torch.no_grad():
                best = torch.topk(net(torch.tensor([ids])).logits[0, -1], 2)
            if float(best.values[0] - best.values[1]) < _MARGIN:
                break
            ids.append(int(best.indices[0]))
        return tuple(ids[len(prompt) :])

    def candidates() -> Iterator[Conversation]:
        chance = random.Random(0)
        while True:
            first = tuple(chance.choices(range(VOCABULARY), k=_PROMPT))
            begun = Conversation(first, answer(first, FIRST_ANSWER), chance.randrange(VOCABULARY), ())
            if len(begun.first_answer) == FIRST_ANSWER:
                ended = replace(begun, second_answer=answer(begun.second, SECOND_ANSWER))
                if len(ended.second_answer) == SECOND_ANSWER:
                    yield ended

    return [one for one, _ in zip(candidates(), range(CONVERSATIONS), strict=False)]


@dataclass(frozen=True)
class ConversingRun(EngineRun):
    """An engine run in which rank 0 holds conversations, one after the other, while rank 1 decodes one request."""

    @property
    def script(self) -> str:
        return "conversing"

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        return f"{run}, prefix caching on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        return super().engine_arguments(checkpoint, storage) | {"enable_prefix_caching": True, "block_size": BLOCK}

    def more(self, rank: int, checkpoint: Path) -> dict[str, Any]:
        if rank != 0:
            return {}
        turns = [turn for one in drawn(checkpoint) for turn in (one.first, one.second)]
        return {"turns": turns, "answers": (FIRST_ANSWER, SECOND_ANSWER)}


def expected(checkpoint: Path) -> dict[int, list[int]]:
    """The answers by turn: those of conversation n are 2n and 2n + 1."""
    answers = [answer for one in drawn(checkpoint) for answer in (one.first_answer, one.second_answer)]
    return {turn: list(answer) for turn, answer in enumerate(answers)}


ROUND = Round("conversations", ((), (2,)))
assert 3 + _MEANWHILE < MAX_TOKENS


def _run(tree: Tree, model: Model, mode: Mode, **settings: bool) -> ConversingRun:
    return ConversingRun(tree, model, mode, rounds=(ROUND,), new_tokens=_MEANWHILE, **settings)


# Others that upstream starts with a prefix cache it does not serve: TorchAir's attention hands a prefill no cache
# (None), and MLA leaves out what was cached unless prefills are chunked.
EAGER, GRAPH, FULL_DECODE = (
    _run(Tree.PATCHED, Model.QWEN3_MOE, mode) for mode in (Mode.EAGER, Mode.ACL_GRAPH, Mode.FULL_DECODE)
)
GRAPH_EP = _run(Tree.PATCHED, Model.QWEN3_MOE, Mode.ACL_GRAPH, expert_parallel=True)
FULL_DECODE_EP = _run(Tree.PATCHED, Model.QWEN3_MOE, Mode.FULL_DECODE, expert_parallel=True)
# The ranks of a dense model have no collective in which a prefill beside a graph would hang (D21).
FULL_DECODE_DENSE = _run(Tree.PATCHED, Model.QWEN3, Mode.FULL_DECODE)
PRISTINE_FULL_DECODE = _run(Tree.PRISTINE, Model.QWEN3_MOE, Mode.FULL_DECODE)
PRISTINE_FULL_DECODE_DENSE = _run(Tree.PRISTINE, Model.QWEN3, Mode.FULL_DECODE)

FULL_DECODES = (FULL_DECODE, FULL_DECODE_EP, FULL_DECODE_DENSE)
PATCHED = (EAGER, GRAPH, GRAPH_EP, *FULL_DECODES)
