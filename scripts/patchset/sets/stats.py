# SPDX-License-Identifier: Apache-2.0
"""How much a set changes: lines added and removed in each upstream file, and the lines of the overlay."""

from __future__ import annotations

from collections.abc import Iterable
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
class ModuleStats:
    """One file of the overlay."""

    path: str
    lines: int


@dataclass(frozen=True)
class SetStats:
    set_name: str
    files: tuple[FileStats, ...]
    modules: tuple[ModuleStats, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "set": self.set_name,
            "files": [asdict(file) for file in self.files],
            "overlay": [asdict(module) for module in self.modules],
            "added": sum(file.added for file in self.files),
            "removed": sum(file.removed for file in self.files),
            "overlay_lines": sum(module.lines for module in self.modules),
        }


def count(patch_set: PatchSet) -> SetStats:
    """Counts a set's patches and overlay.

    Raises:
        UsageError, PatchDoesNotApply: the series, a patch or the overlay cannot be read.
    """
    modules = overlay.load(patch_set).files
    counted = (ModuleStats(path, data.count(b"\n")) for path, data in sorted(modules.items()))
    return SetStats(patch_set.name, by_file(series.load(patch_set.folder)), tuple(counted))


def by_file(patches: Iterable[Patch]) -> tuple[FileStats, ...]:
    """The files that ``patches`` change, sorted by path."""
    found: dict[str, FileStats] = {}
    for patch in patches:
        for file in patch.lines:
            before = found.get(file.path, FileStats(file.path, 0, 0, 0))
            found[file.path] = FileStats(
                file.path,
                before.patches + 1,
                before.added + file.added,
                before.removed + file.removed,
            )
    return tuple(found[path] for path in sorted(found))


def show(stats: SetStats, terminal: Terminal) -> None:
    """Prints both tables."""
    total = stats.as_dict()
    rows = [(file.path, str(file.patches), f"+{file.added}", f"-{file.removed}") for file in stats.files]
    rows.append((f"{len(stats.files)} upstream files", "", f"+{total['added']}", f"-{total['removed']}"))
    terminal.table(f"patches of {stats.set_name}", ("upstream file", "patches", "+", "-"), rows, right="patches + -")
    lines = [(module.path, str(module.lines)) for module in stats.modules]
    lines.append((f"{len(stats.modules)} overlay files", str(total["overlay_lines"])))
    terminal.table(f"overlay of {stats.set_name}", ("overlay file", "lines"), lines, right="lines")
