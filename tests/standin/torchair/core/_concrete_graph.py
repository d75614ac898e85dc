# SPDX-License-Identifier: Apache-2.0
"""Values of a graph that is being converted; none is, here."""

from __future__ import annotations

from typing import Any


def _is_symlist(value: Any) -> bool:
    """Whether a value is a list of symbols: there are no symbols."""
    return False
