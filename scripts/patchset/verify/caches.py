# SPDX-License-Identifier: Apache-2.0
"""Compiled caches: what Python runs instead of a source file, if the cache says that it was made from it.

RECORD has no digests of them, and a source that is as it should be says nothing about its cache. So each cache that
Python would use is compared with what the source compiles to. That needs the Python that made it: the caches of another
one are counted, not looked into.
"""

from __future__ import annotations

import importlib.util
import marshal
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import CodeType

_NAME = re.compile(r"(?P<stem>[^.]+)\.(?P<tag>[^.]+)(?:\.opt-(?P<level>[12]))?\.pyc")
_HEADER = 16  # bytes: magic number, flags, then time and size of the source, or its hash (PEP 552)
_BY_HASH, _CHECKED = 1, 2


def differing(package: Path) -> tuple[list[Path], int]:
    """The caches below a package that Python would run and that are not what their source compiles to.

    Returns:
        these caches, and how many others are another Python's.
    """
    wrong, others = [], 0
    for cache in sorted(package.rglob("__pycache__/*.pyc")):
        match = _NAME.fullmatch(cache.name)
        source = cache.parent.parent / f"{match['stem']}.py" if match else None
        if match is None or source is None or not source.is_file():
            continue  # no import finds it
        if match["tag"] != sys.implementation.cache_tag:
            others += 1
        elif _used(data := cache.read_bytes(), source) and _code(data) != _compiled(source, int(match["level"] or 0)):
            wrong.append(cache)
    return wrong, others


def _used(data: bytes, source: Path) -> bool:
    """Whether Python takes the cache for the source's, as importlib decides it."""
    if len(data) < _HEADER or data[:4] != importlib.util.MAGIC_NUMBER:
        return False
    flags = int.from_bytes(data[4:8], "little")
    if flags & _BY_HASH:
        return not flags & _CHECKED or data[8:16] == importlib.util.source_hash(source.read_bytes())
    found = source.stat()
    stamp = (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    return (int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little")) == stamp


def _code(data: bytes) -> CodeType | None:
    try:
        value = marshal.loads(data[_HEADER:])  # noqa: S302 - read to be compared, never run; Python itself would run it
    except (ValueError, EOFError, TypeError):
        return None
    return value if isinstance(value, type(_code.__code__)) else None


def _compiled(source: Path, level: int) -> CodeType | None:
    """What the source compiles to; code objects are equal whatever file they say that they are of."""
    try:
        return compile(source.read_bytes(), str(source), "exec", dont_inherit=True, optimize=level)
    except (SyntaxError, ValueError):
        return None
