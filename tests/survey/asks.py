# SPDX-License-Identifier: Apache-2.0
"""What each rank of a deployment is asked, by the dimension `ask`; steps are counted alike on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from survey import pictures

JUDGED = 8
"""Tokens of each request that are held against Hugging Face's."""
BLOCK = 128
ANSWERED = 9
CONVERSATIONS = 4
SECOND_TURN = 16
"""The step at which second turns come: a few idle ones after the last answer of the first."""

VOCABULARY = 384
MARKS = pictures.marks(VOCABULARY)
"""A picture in a prompt."""
PROMPTS: tuple[tuple[int, ...], ...] = (
    (11, 3, 250, 377, 5),
    (5,),
    (90, 91, 92),
    tuple((7 * i * i + 3 * i + 1) % VOCABULARY for i in range(150)),
    (200, 4, 4, 4, 200, 17, 33, 68, 129),
    tuple(range(300, 323)),
    (350, 31, 8, 240, 99, 2, 2),
)
# With its answers but the last, whose key and value no step stores, a first turn ends on a block boundary.
FIRST_TURNS = tuple(
    tuple((5 * i * i + (11 + 2 * k) * i + 17 * k) % VOCABULARY for i in range(BLOCK - ANSWERED + 1))
    for k in range(CONVERSATIONS)
)
FOLLOW_UP = 7
LOGPROBS = 2
"""How many of each step are asked for."""
BETWEEN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "profiled": (("start_profile",), ("stop_profile",)),
    "slept": (("sleep", "wake_up"),),
}
"""What is called on every engine before the second phase, before the third, and so on: by `ask`."""
SLOW_STEP = 0.2
"""Seconds that a step of a slow rank takes in the least, so that a machine's load is little beside it."""
COLD = 0.02
"""Temperature at which the first token, which leads by 1 logit at the least, has all but 1e-8 of the probability.

vLLM refuses several answers where it does not draw at random."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        id: its name, alike for the same prompt.
        prompt: token ids; of a second turn, those that the conversation adds.
        phase: the one that it belongs to; the next one begins when every rank has all answers of this.
        at: the step of its phase before which it is added.
        tokens: how many it asks for.
        follows: the request whose prompt and answers come before its own prompt.
        abort_at: the step before which it is aborted, or None.
        sampling: what else SamplingParams gets.
        grammar: whether its tokens are those of the grammar that the checkpoint has for this request.
        timed: whether the seconds until its first token count.
        picture: the picture that its prompt, or that of the conversation, begins with, or None.
    """

    id: str
    prompt: tuple[int, ...]
    phase: int = 0
    at: int = 0
    tokens: int = JUDGED
    follows: str | None = None
    abort_at: int | None = None
    sampling: tuple[tuple[str, Any], ...] = ()
    grammar: bool = False
    timed: bool = False
    picture: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"sampling": dict(self.sampling)}


def _one(index: int, **more: Any) -> Request:
    return Request(f"p{index}", PROMPTS[index], **more)


def _turns(seqs: int) -> tuple[Request, ...]:
    some = range(min(seqs, CONVERSATIONS))
    first = tuple(Request(f"t{k}", FIRST_TURNS[k], tokens=ANSWERED) for k in some)
    wait = SECOND_TURN * (1 if seqs > 1 else 2)
    return first + tuple(Request(f"u{k}", (FOLLOW_UP,), at=wait, tokens=JUDGED, follows=f"t{k}") for k in some)


def of(ask: str, ranks: int, seqs: int) -> tuple[tuple[Request, ...], ...]:
    """The requests of each rank; ``seqs`` is the most that one holds at once."""
    first, last = 0, ranks - 1
    asked: list[list[Request]] = [[] for _ in range(ranks)]
    match ask:
        case "one":
            asked[first] = [_one(0)]
        case "uneven":
            few = len(PROMPTS) - 2  # two on the last: rows that are padded are more than one request's
            asked[first] = [_one(index) for index in range(few)]
            asked[last] += [_one(few), _one(few + 1)] if ranks > 1 else []
        case "late":
            asked[first] = [_one(2)]
            asked[last] += [_one(3, at=3)]
        case "abort":
            asked[first] = [_one(0, tokens=20, abort_at=4), _one(2)]
            asked[last] += [_one(5, at=2)]
        case "logprobs":
            asked[first] = [_one(0, sampling=(("logprobs", LOGPROBS),))]
            asked[last] += [_one(4, at=2)]
        case "prompt_logprobs":
            # Of tokens that the first rank's part of a parallel head holds: upstream looks there alone.
            asked[first] = [_one(2, sampling=(("prompt_logprobs", 1),))]
        case "structured":
            asked[first] = [Request("g0", PROMPTS[0], grammar=True), _one(2)]
            asked[last] += [_one(4, at=2)] if ranks > 1 else []
        case "n2":
            asked[first] = [_one(0, sampling=(("n", 2), ("temperature", COLD)))]
        case "turns":
            asked[first] = list(_turns(seqs))
            # Decodes beside the silence, and after the second turns' last answer.
            asked[last] += [_one(2, tokens=4 * SECOND_TURN)] if ranks > 1 else []
        case "beside_slow":
            asked[first] = [_one(2, tokens=40)]
            asked[last] += [_one(index, at=20 * number, timed=True) for number, index in enumerate((0, 1, 4, 5, 6), 1)]
        case "profiled":
            asked[first] = [_one(0), _one(4, phase=1), _one(2, phase=2)]
            asked[last] += [_one(5, phase=1, at=2), _one(6, phase=2)]
        case "slept":
            asked[first] = [_one(0), _one(4, phase=1)]
            asked[last] += [_one(2), _one(3, phase=1, at=2)]
    return tuple(map(tuple, asked))


def first_requests(sees: bool) -> tuple[Request, ...]:
    """Each prompt, and each first turn, once; with pictures where the model ``sees``."""
    every = tuple(_one(index) for index in range(len(PROMPTS))) + _turns(CONVERSATIONS)[:CONVERSATIONS]
    return with_pictures((every,))[0] if sees else every


def with_pictures(asked: tuple[tuple[Request, ...], ...]) -> tuple[tuple[Request, ...], ...]:
    """The same, of which every other one begins with a picture."""
    return tuple(tuple(map(_pictured, of)) for of in asked)


def _pictured(one: Request) -> Request:
    number = int(one.id[1:])
    if number % 2:
        return one
    index = number // 2 % pictures.PICTURES
    return replace(one, prompt=one.prompt if one.follows else with_marks(one.prompt), picture=index)


def with_marks(prompt: tuple[int, ...]) -> tuple[int, ...]:
    """A prompt that a picture begins; of a longer one it takes the place of as many tokens."""
    size = len(pictures.expanded(MARKS, MARKS[1]))
    return MARKS + (prompt[size:] if len(prompt) > size else prompt)
