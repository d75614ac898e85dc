# SPDX-License-Identifier: Apache-2.0
"""JSON with one form for each value, so that equal statements have equal digests."""

from __future__ import annotations

import json
from typing import Any


def render(value: Any) -> bytes:
    """A value as JSON in UTF-8: keys sorted, no white space.

    For objects with keys in ASCII, strings and integers, which is all that statements hold, that is RFC 8785.

    >>> render({"b": [1, "caf\u00e9"], "a": None})
    b'{"a":null,"b":[1,"caf\\xc3\\xa9"]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
