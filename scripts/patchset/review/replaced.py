# SPDX-License-Identifier: Apache-2.0
"""Each overlay module beside the upstream code that it takes the place of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from patchset.node.errors import UsageError
from patchset.review import code
from patchset.review.code import Line
from patchset.sets import symbols
from patchset.sets.overlay import Overlay


@dataclass(frozen=True)
class Excerpt:
    """Lines of a file."""

    anchor: str  # of the excerpt in the page; a line's is the anchor, `:R`, and the number
    path: str  # of the file
    symbol: str  # what of the file it is; empty for the whole of it
    first: int  # the number of its first line
    lines: tuple[Line, ...]  # the coloured lines


@dataclass(frozen=True)
class Module(Excerpt):
    """The whole of an overlay module, and the upstream code that it replaces, if any."""

    replaces: tuple[Excerpt, ...]


def modules(overlay: Overlay, read: Callable[[str], bytes]) -> tuple[Module, ...]:
    """The modules by path; `read` gives upstream's bytes.

    Raises:
        UsageError: upstream has no such symbol.
    """
    found = []
    for path, data in sorted(overlay.files.items()):
        anchor = f"overlay/{path}"
        replaces = tuple(
            _excerpt(f"{anchor}/replaces/{row.path}", row.path, row.symbol, read(row.path))
            for row in overlay.replaces
            if row.module == path
        )
        found.append(Module(**vars(_excerpt(anchor, path, "", data)), replaces=replaces))
    return tuple(found)


def _excerpt(anchor: str, path: str, name: str, data: bytes) -> Excerpt:
    symbol = symbols.find(data, name)
    if symbol is None:
        raise UsageError(f"{path} has no {name}", hint="mend overlay.toml")
    return Excerpt(anchor, path, name, symbol.first, code.excerpt(path, data, symbol.first, symbol.last))
