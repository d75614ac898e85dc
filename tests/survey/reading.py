# SPDX-License-Identifier: Apache-2.0
"""What ranks said: whether an answer is right, and which error came first."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from survey.asks import Request

NEAR = 0.5
"""By how much a logprob may differ: `net` refuses a checkpoint where rounding changes a logit by half of that, and a
logprob changes by twice what logits do at the most. Logits of another row differ by a few units."""
CLOSE = 0.98
"""The least cosine of a vector and Hugging Face's: `net` refuses a checkpoint where rounding takes a quarter of what is
missing to one. Vectors of other prompts have less than that: tests/unit holds it."""
_WORD = re.compile(r"t(\d+)")
# Worker processes put their name before it, in colour, and a logger its own words.
_ERROR = re.compile(
    r"^(?:\x1b\[[\d;]*m|\([^)\n]*pid=\d+\)|ERROR [^\]\n]*\]|\s)*"
    r"((?:\w+\.)*\w*(?:Error|Exception|Enforce)\w*\b.*)",
    re.MULTILINE,
)
# What a rank says of a peer that has gone.
_FOLLOWS = ("Connection closed", "Connection reset", "DistNetworkError", "DistStoreError", "recvBytes")


def is_right(request: Request, answer: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> bool:
    """Whether an answer is what Hugging Face's is, as far as that goes; the rest of a long one is not judged.

    Args:
        request: what was asked.
        answer: ``choices``, each with ``tokens`` and, of a request that asks for them, ``top``, the largest logprobs of
            each step; ``prompt``, the logprobs of the prompt's tokens but the first. Or ``vector``, of an embedding
            model.
        expected: the same of one choice.
    """
    if answer is None:
        return request.abort_at is not None
    if "vector" in expected:
        return _cosine(answer["vector"], expected["vector"]) >= CLOSE
    sampling, choices = dict(request.sampling), answer["choices"]
    tokens = expected["tokens"]
    right = len(choices) == sampling.get("n", 1) and all(one["tokens"][: len(tokens)] == tokens for one in choices)
    if "logprobs" in sampling:
        found = choices[0]["top"]
        right = right and len(found) == len(expected["top"]) and all(map(_near, found, expected["top"]))
    if "prompt_logprobs" in sampling:
        right = right and _near(answer["prompt"], expected["prompt"])
    return right


def _near(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and all(abs(a - b) < NEAR for a, b in zip(found, expected, strict=True))


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two vectors of one size; NaN, which is near nothing, where one of them is zero."""
    lengths = math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    if len(one) != len(other) or not lengths:
        return math.nan
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths


def of_completion(found: Mapping[str, Any], prompt: Sequence[int]) -> dict[str, Any]:
    """The ``answer`` of `is_right` that a server's completion, or its turn of a chat, is."""
    of_prompt = found.get("prompt_logprobs") or found["choices"][0].get("prompt_logprobs")
    if of_prompt is not None:
        of_prompt = [step[str(token)]["logprob"] for token, step in zip(prompt[1:], of_prompt[1:], strict=True)]
    return {"choices": [_choice(one) for one in found["choices"]], "prompt": of_prompt}


def of_text(text: str) -> dict[str, Any]:
    """The ``answer`` of `is_right` that a completion's text is, where nothing else is asked for."""
    return {"choices": [{"tokens": _tokens(text), "top": []}], "prompt": None}


def _choice(one: Mapping[str, Any]) -> dict[str, Any]:
    logprobs = one["logprobs"] or {}
    if "message" in one:
        text = one["message"]["content"]
        steps = [[found["logprob"] for found in step["top_logprobs"]] for step in logprobs.get("content") or ()]
    else:
        text, steps = one["text"], [[*step.values()] for step in logprobs.get("top_logprobs") or ()]
    return {"tokens": _tokens(text), "top": [sorted(step, reverse=True) for step in steps]}


def _tokens(text: str) -> list[int]:
    return [int(word) for word in _WORD.findall(text)]


def alike(joined: Mapping[int, Sequence[Sequence[object]]]) -> bool:
    """Whether every rank joined the same collectives, as far as all of them came.

    Args:
        joined: by rank, the collectives of each of its workers; those of one place in their ranks are held against each
            other.
    """
    return all(_begin_alike(of_place) for of_place in zip(*joined.values(), strict=False))


def _begin_alike(sequences: Sequence[Sequence[object]]) -> bool:
    shortest = min(map(len, sequences))
    return all(one[:shortest] == sequences[0][:shortest] for one in sequences)


def first_error(logs: Iterable[str]) -> str:
    """The first error of a log, for those after it follow from it; of a rank that did more than lose its peer."""
    found = [match.group(1)[:300] for log in logs if (match := _ERROR.search(log))]
    return next((one for one in found if not any(word in one for word in _FOLLOWS)), found[0] if found else "")
