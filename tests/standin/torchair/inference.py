# SPDX-License-Identifier: Apache-2.0
"""Compilation with a cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def cache_compile(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """The function itself: there is nothing to compile and nothing to cache."""
    return function
