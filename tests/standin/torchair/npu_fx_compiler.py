# SPDX-License-Identifier: Apache-2.0
"""The converter of traced graphs, some of whose functions vllm-ascend replaces; a file of its own, because it is loaded
anew."""

from __future__ import annotations

from typing import Any


def _unpack_meta_list(values: Any) -> Any:
    """The values that tracing sees of a list: the list itself, for nothing is packed."""
    return values


class _NpuGraphConverter:
    """Converts a traced graph; none is, here."""
