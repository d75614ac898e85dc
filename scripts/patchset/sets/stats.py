# SPDX-License-Identifier: Apache-2.0
"""How much a set changes: lines added and removed in each upstream file, and the lines of the overlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from patchset.sets import overlay, series
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet
from patchset.system.terminal import Terminal


@dataclass(frozen=True)
class FileStats:
    """What the patches of a series do to one upstream file: a line that two patches change counts twice."""

    path: str
    patches: int
    added: int
    removed: int


@dataclass(frozen=True)
class SetStats:
    """What the patches do to each file, and the lines of each overlay file, both by path."""

    set_name: str
    files: tuple[FileStats, ...]
    modules: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {
            "set": self.set_name,
            "files": [asdict(file) for file in self.files],
            "overlay": [{"path": path, "lines": lines} for path, lines in self.modules.items()],
            "added": sum(file.added for file in self.files),
            "removed": sum(file.removed for file in self.files),
            "overlay_lines": sum(self.modules.values()),
        }


def count(patch_set: PatchSet) -> SetStats:
    """Counts a set's patches and overlay.

    Raises:
        UsageError, PatchDoesNotApply: the series, a patch or the overlay cannot be read.
    """
    modules = {path: data.count(b"\n") for path, data in sorted(overlay.load(patch_set).files.items())}
    return SetStats(patch_set.name, by_file(series.load(patch_set.folder)), modules)


def by_file(patches: Iterable[Patch]) -> tuple[FileStats, ...]:
    """The files that ``patches`` change, sorted by path."""
    found: dict[str, FileStats] = {}
    for patch in patches:
        for file in patch.lines:
            was = found.get(file.path, FileStats(file.path, 0, 0, 0))
            counts = (was.patches + 1, was.added + file.added, was.removed + file.removed)
            found[file.path] = FileStats(file.path, *counts)
    return tuple(found[path] for path in sorted(found))


def show(stats: SetStats, terminal: Terminal) -> None:
    """Prints both tables."""
    total = stats.as_dict()
    rows = [(file.path, str(file.patches), f"+{file.added}", f"-{file.removed}") for file in stats.files]
    rows.append((f"{len(stats.files)} upstream files", "", f"+{total['added']}", f"-{total['removed']}"))
    terminal.table(f"patches of {stats.set_name}", ("upstream file", "patches", "+", "-"), rows, right="patches + -")
    lines = [(path, str(count)) for path, count in stats.modules.items()]
    lines.append((f"{len(stats.modules)} overlay files", str(total["overlay_lines"])))
    terminal.table(f"overlay of {stats.set_name}", ("overlay file", "lines"), lines, right="lines")
