# SPDX-License-Identifier: Apache-2.0
"""Which patches touch the same file, and which the same class or function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from patchset.review.diff import FileDiff
from patchset.sets import symbols

Content = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Touch:
    """What one patch changes at one place.

    Attributes:
        patch: its number in the series, from 1.
        anchor: of the first changed line in the page.
        added, removed: counts of lines.
    """

    patch: int
    anchor: str
    added: int
    removed: int


@dataclass(frozen=True)
class Place:
    """A class or function, or the top of a module where `symbol` is empty."""

    symbol: str
    touches: tuple[Touch, ...]

    @property
    def shared(self) -> bool:
        """Whether more than one patch is here."""
        return len(self.touches) > 1


@dataclass(frozen=True)
class TouchedFile:
    """One upstream file, and the places in it that patches change."""

    path: str
    places: tuple[Place, ...]

    @property
    def patches(self) -> frozenset[int]:
        """Numbers of the patches that change the file."""
        return frozenset(touch.patch for place in self.places for touch in place.touches)


def overlaps(patches: Iterable[tuple[tuple[FileDiff, ...], Content, Content]]) -> tuple[TouchedFile, ...]:
    """The map of a series: of each patch its diffs, and what gives the content of a path before and after it."""
    counts: dict[tuple[str, str], dict[int, Touch]] = {}
    for number, (files, before, after) in enumerate(patches, start=1):
        for file in files:
            old, new = before(file.path), after(file.path)
            for line in (line for hunk in file.hunks for line in hunk.changed):
                added = bool(line.new)
                name = symbols.at(new, file.path, line.new) if added else symbols.at(old, file.path, line.old)
                anchor = f"{file.anchor}:{f'R{line.new}' if added else f'L{line.old}'}"
                row = counts.setdefault((file.path, name), {})
                last = row.get(number, Touch(number, anchor, 0, 0))
                row[number] = Touch(number, last.anchor, last.added + added, last.removed + (not added))
    found: dict[str, list[Place]] = {}
    for (path, name), row in sorted(counts.items()):
        found.setdefault(path, []).append(Place(name, tuple(row[number] for number in sorted(row))))
    return tuple(TouchedFile(path, tuple(places)) for path, places in found.items())
