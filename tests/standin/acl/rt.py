# SPDX-License-Identifier: Apache-2.0
"""``acl.rt``: memory of the device, which is memory of the host here."""

from __future__ import annotations

import ctypes


def memcpy(dst: int, dest_max: int, src: int, count: int, kind: int) -> int:
    """Copies `count` bytes between addresses; returns 0, or 107000 (invalid parameter) if they do not fit."""
    if count > dest_max:
        return 107000
    ctypes.memmove(dst, src, count)
    return 0
