# SPDX-License-Identifier: Apache-2.0
"""What ranks said: whether an answer is right, and which error came first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from survey.asks import Request

NEAR = 0.5
"""By how much a logprob may differ: `net` refuses a checkpoint where rounding changes a logit by half of that, and a
logprob changes by twice what logits do at the most. Logits of another row differ by a few units."""
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
            each step; ``prompt``, the logprobs of the prompt's tokens but the first.
        expected: the same of one choice.
    """
    if answer is None:
        return request.abort_at is not None
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
