# SPDX-License-Identifier: Apache-2.0
"""The upstream code that overlay modules take the place of, looked up in another release."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from patchset.sets import symbols
from patchset.sets.overlay import Replaced

_ALIKE = 0.5  # another class's method of the same name shares less


class Finding(Enum):
    SAME = "same"
    MOVED = "moved"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True)
class SymbolFate:
    row: Replaced  # as overlay.toml pins it
    finding: Finding  # same lines, moved (same lines elsewhere), changed, or gone
    # Where it is there; empty where it is gone.
    path: str = ""
    symbol: str = ""
    sha256: str = ""  # of its lines there
    diff: str = ""  # from the pinned lines to those
    alike: float = 0.0  # the share of lines that both have, 0 to 1


def look(row: Replaced, old: Path, new: Path, renames: Mapping[str, str]) -> SymbolFate:
    """Looks a symbol up: in its file, in the file's new place, then by its last name in the whole package."""
    path = renames.get(row.path, row.path)
    found = _at(row, old, new, path, row.symbol)
    if found is None and row.symbol:
        places = [_at(row, old, new, *place) for place in _named(new, row.path.split("/")[0], row.symbol)]
        found = max((one for one in places if one and one.alike >= _ALIKE), key=lambda one: one.alike, default=None)
    return found or SymbolFate(row, Finding.GONE)


def _at(row: Replaced, old: Path, new: Path, path: str, symbol: str) -> SymbolFate | None:
    """The symbol at a place of the new release; None where it is not there."""
    file = new / path
    if not file.is_file():
        return None
    source = file.read_bytes()
    digest = symbols.sha256(source, symbol)
    if digest is None:
        return None
    here = (path, symbol) == (row.path, row.symbol)
    if digest == row.sha256:
        return SymbolFate(row, Finding.SAME if here else Finding.MOVED, path, symbol, digest, alike=1.0)
    before = symbols.text((old / row.path).read_bytes(), row.symbol) or b""
    after = symbols.text(source, symbol) or b""
    was, now = (text.decode(errors="replace").splitlines(keepends=True) for text in (before, after))
    diff = "".join(difflib.unified_diff(was, now, fromfile=row.path, tofile=path))
    alike = difflib.SequenceMatcher(None, was, now, autojunk=False).ratio()
    return SymbolFate(row, Finding.CHANGED, path, symbol, digest, diff, alike)


def _named(tree: Path, package: str, symbol: str) -> list[tuple[str, str]]:
    last = symbol.rpartition(".")[2]
    found = []
    for file in sorted((tree / package).rglob("*.py")):
        source = file.read_bytes()
        if last.encode() not in source:
            continue
        path = file.relative_to(tree).as_posix()
        found += [(path, one.name) for one in symbols.symbols(source) if one.name.rpartition(".")[2] == last]
    return found
