# SPDX-License-Identifier: Apache-2.0
"""How much a set changes: lines added and removed in each upstream file, and the lines of the overlay."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from patchset.sets import overlay, series
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet
from patchset.system.terminal import Terminal


def count(patch_set: PatchSet) -> dict[str, Any]:
    """Counts patches and overlay, for the command's document; raises UsageError, PatchDoesNotApply."""
    files = by_file(series.load(patch_set.folder))
    modules = {path: data.count(b"\n") for path, data in sorted(overlay.load(patch_set).files.items())}
    return {
        "set": patch_set.name,
        "files": [{"path": path, **counts} for path, counts in files.items()],
        "overlay": [{"path": path, "lines": lines} for path, lines in modules.items()],
        "added": sum(counts["added"] for counts in files.values()),
        "removed": sum(counts["removed"] for counts in files.values()),
        "overlay_lines": sum(modules.values()),
    }


def by_file(patches: Iterable[Patch]) -> dict[str, Counter[str]]:
    """How many patches change each upstream file, by path, and by how many lines: one that two change counts twice."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for patch in patches:
        for file in patch.lines:
            found[file.path].update(patches=1, added=file.added, removed=file.removed)
    return dict(sorted(found.items()))


def show(counts: dict[str, Any], terminal: Terminal) -> None:
    rows = [(one["path"], str(one["patches"]), f"+{one['added']}", f"-{one['removed']}") for one in counts["files"]]
    rows.append((f"{len(rows)} upstream files", "", f"+{counts['added']}", f"-{counts['removed']}"))
    terminal.table(f"patches of {counts['set']}", ("upstream file", "patches", "+", "-"), rows, right="patches + -")
    lines = [(one["path"], str(one["lines"])) for one in counts["overlay"]]
    lines.append((f"{len(lines)} overlay files", str(counts["overlay_lines"])))
    terminal.table(f"overlay of {counts['set']}", ("overlay file", "lines"), lines, right="lines")
