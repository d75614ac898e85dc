# SPDX-License-Identifier: Apache-2.0
"""What ranks said: whether an answer is right, and which error came first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from survey.asks import Request

_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Enforce)\w*\b.*", re.MULTILINE)
# What a rank says of a peer that has gone.
_FOLLOWS = ("Connection closed", "Connection reset", "DistNetworkError", "DistStoreError", "recvBytes")


def is_right(request: Request, choices: Sequence[list[int]] | None, expected: list[int]) -> bool:
    """Whether each choice begins with what Hugging Face's says; the rest of a long answer is not judged."""
    if choices is None:
        return request.abort_at is not None
    wanted = dict(request.sampling).get("n", 1)
    return len(choices) == wanted and all(ids[: len(expected)] == expected for ids in choices)


def first_error(logs: Iterable[str]) -> str:
    """The first error of a log, for those after it follow from it; of a rank that did more than lose its peer."""
    found = [match.group(0)[:300] for log in logs if (match := _ERROR.search(log))]
    return next((one for one in found if not any(word in one for word in _FOLLOWS)), found[0] if found else "")
