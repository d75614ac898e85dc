# SPDX-License-Identifier: Apache-2.0
"""The series: which patches of a set apply, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from patchset.node.errors import PatchDoesNotApply, UsageError
from patchset.sets import patchfile
from patchset.sets.patchfile import Patch
from patchset.system import paths
from patchset.system.state import Store


def names(text: str) -> list[str]:
    """The patch names of a series file: one a line; # begins a comment.

    >>> names("# first\\n0001-a.patch\\n\\n0002-b.patch  # why\\n")
    ['0001-a.patch', '0002-b.patch']
    """
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def rewrite(text: str, wanted: Sequence[str]) -> str:
    """The text of a series file with other names, comments kept: those above a name stay with it.

    >>> rewrite("# first\\na.patch\\n\\n# next\\nb.patch  # why\\n", ["b.patch", "c.patch"])
    '\\n# next\\nb.patch  # why\\nc.patch\\n'
    """
    if names(text) == list(wanted):
        return text
    blocks: dict[str, str] = {}
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line if line.endswith("\n") else f"{line}\n"
        if name := names(line):
            blocks[name[0]] = pending
            pending = ""
    return "".join([*(blocks.get(name, f"{name}\n") for name in wanted), pending])


def refuse_half_written(folder: Path) -> None:
    """Raises UsageError if a run that writes patches/ and overlay/ was interrupted; its command finishes it."""
    if folder != paths.set_dir(folder.name):
        return
    for name in paths.sets():
        if journal := Store(paths.patches_state(name)).journal():
            what = f"{folder.parent} is half written: patchset {journal.command} {name} was cut off"
            raise UsageError(what, hint=f"patchset {journal.command} {name} finishes it")


def load(folder: Path) -> tuple[Patch, ...]:
    """Reads every patch; raises UsageError: series and folder disagree; PatchDoesNotApply: a patch is malformed."""
    return tuple(patchfile.parse(name, data) for name, data in read(folder).items())


def read(folder: Path) -> dict[str, bytes]:
    """The bytes of every patch of patches/<set> by its name, in the order of the series; raises as `load`."""
    refuse_half_written(folder)
    file = folder / "series"
    try:
        listed = names(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}", hint="restore it with git") from error
    present = {entry.name for entry in folder.glob("*.patch")}
    if len(set(listed)) != len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise UsageError(f"{file}: {twice} is listed twice")
    if missing := [name for name in listed if name not in present]:
        raise UsageError(f"{file}: {missing[0]} is listed and not in the folder", hint="add the file, or drop the line")
    if unused := sorted(present - set(listed)):
        raise UsageError(f"{folder / unused[0]} is not in the series", hint=f"add it to {file}, or remove it")
    found = {name: patchfile.read(folder / name) for name in listed}
    for before, after in pairwise(found):
        if found[before] == found[after]:
            raise PatchDoesNotApply(f"{after} is the same as {before}", patch=after)
    return found
