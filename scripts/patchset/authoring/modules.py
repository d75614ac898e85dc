# SPDX-License-Identifier: Apache-2.0
"""The overlay modules of a build tree, and where in overlay/ each one goes back to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from patchset.node.errors import TargetModified, UsageError
from patchset.sets import overlay
from patchset.sets.overlay import Overlay
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.git import Repository, blob_id


@dataclass(frozen=True)
class Gathered:
    """The overlay as the tree has it."""

    overlay: Overlay  # what the set installs
    paths: frozenset[str]  # of every module, in the tree
    files: Mapping[str, bytes | None]  # of overlay/ that change, below the repository; None for one that goes


def gathered(
    repository: Repository, patch_set: PatchSet, applied: Mapping[str, str], tip: str, committed: Iterable[str]
) -> Gathered:
    """Takes the modules that the tree has changed since it was made.

    `applied` has git's ids of the modules that the tree was made with, by path, and `committed` the files of the
    overlay's own commit.

    Raises:
        TargetModified: a module was changed in overlay/, too.
        UsageError: where a new or a deleted module belongs cannot be told.
    """
    there = overlay.load(patch_set)
    every = frozenset({*applied, *there.files, *committed})
    now = repository.files(tip, *sorted(every)) if every else {}
    contents = repository.blobs(now.values())
    result: dict[str, bytes | None] = {}
    files: dict[str, bytes | None] = {}
    for path in sorted(every):
        old, ours, found = applied.get(path), now.get(path), there.files.get(path)
        on_disk = None if found is None else blob_id(found)
        if ours == on_disk:
            continue
        if on_disk != old and not (old is None and found == b""):
            raise TargetModified(
                f"{path} has changed in overlay/ since the tree was made; nothing was written",
                paths=[path],
                hint="set that change aside (git stash), export, bring it back, make record; "
                "or, without commits of yours in the tree: make record, make apply",
            )
        place = _place(patch_set, path, deleted=ours is None)
        files[place] = result[path] = None if ours is None else contents[ours]
    now_installed = there.with_files(result)
    if gone := [row.module for row in there.replaces if row.module not in now_installed.files]:
        raise UsageError(
            f"{gone[0]} is gone, but {overlay.overlay_toml(patch_set.name)} says what it replaces",
            hint="take its [[module]] out of there first",
        )
    return Gathered(now_installed, every, files)


def _place(patch_set: PatchSet, path: str, *, deleted: bool) -> str:
    """The file of overlay/ that a module is, below the repository."""
    folders = paths.overlay_dirs(patch_set.name, patch_set.root)
    could = {folder / path: (folder / path).relative_to(patch_set.root).as_posix() for folder in folders}
    there = [name for file, name in could.items() if file.is_file()]
    if not there:
        raise UsageError(
            f"{path} is a new module: for every set, or for {patch_set.name} alone?",
            hint=f"make an empty file for it, {' or '.join(could.values())}, then export again",
        )
    if deleted and len(there) > 1:
        raise UsageError(
            f"{path} is deleted in the tree, but there are {' and '.join(there)}", hint="remove what is meant there"
        )
    return there[-1]
