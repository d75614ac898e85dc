# SPDX-License-Identifier: Apache-2.0
"""The build tree as an author's work tree: what no commit has, what git is in the middle of, the overlay's modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from patchset.node.errors import TargetModified, UsageError, first_of
from patchset.plan import history
from patchset.plan.history import Underway
from patchset.sets import overlay
from patchset.sets.overlay import Overlay
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.git import Repository, blob_id
from patchset.system.state import Store
from patchset.target import change
from patchset.target.locate import build_tree

_SHOWN = 10


@contextmanager
def session(patch_set: PatchSet) -> Iterator[Repository]:
    """The repository of a build tree, locked; raises UsageError: nothing is applied, a run was cut off; and Locked."""
    target = build_tree(patch_set)
    if not (target.root / ".git").is_dir():
        raise UsageError(f"{target.root} is not there", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
    store = Store(target.state)
    with change.session(target, store):
        if store.journal():
            raise UsageError(f"a run was cut off in {target.root}", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
        repository = Repository(target.root)
        if repository.ref(history.UPSTREAM) is None or repository.ref(patch_set.name) is None:
            hint = f"remove the tree, then make apply VERSION={patch_set.name} SMOKE=0"
            raise UsageError(f"{target.root} lacks the branch {history.UPSTREAM} or {patch_set.name}", hint=hint)
        yield repository


def refuse_underway(repository: Repository) -> None:
    """Raises TargetModified where git is in the middle of something."""
    if (what := history.underway(repository.root)) is not Underway.NOTHING:
        hint = f"git -C {repository.root} {what.value} --continue, or --abort"
        rows = repository.git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")
        unmerged = sorted({path for path in rows if path})
        raise TargetModified(f"a {what.value} is under way in {repository.root}", paths=unmerged, hint=hint)


def refuse_changes(repository: Repository, patch_set: PatchSet) -> None:
    """Raises TargetModified where a file has changes that no commit has."""
    rows = repository.git("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all").split("\0")
    package = f"{patch_set.package}/"  # of which new files count, but for those that git ignores
    if changed := sorted(row[3:] for row in rows if row and (row[:2] != "??" or row[3:].startswith(package))):
        what = f"{repository.root} has changes that are in no commit\n  " + "\n  ".join(first_of(changed, _SHOWN))
        hint = "git commit them; --fixup=ID and git rebase -i --autosquash upstream take them into a patch"
        raise TargetModified(what, paths=changed, hint=hint)


@dataclass(frozen=True)
class Modules:
    overlay: Overlay  # what the set installs
    paths: frozenset[str]  # of every module, in the tree
    files: Mapping[str, bytes | None]  # of overlay/ that change, below the repository; None for one that goes


def modules(
    repository: Repository, patch_set: PatchSet, applied: Mapping[str, str], tip: str, committed: Iterable[str]
) -> Modules:
    """Takes the modules that the tree has changed since it was made. `applied` has git's ids of the modules that the
    tree was made with, by path, and `committed` the files of the overlay's own commit. Raises TargetModified: a module
    was changed in overlay/, too; UsageError: where a new or a deleted module belongs cannot be told."""
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
                hint="set that change aside (git stash), export, bring it back, make pin; "
                "or, without commits of yours in the tree: make pin, make apply",
            )
        place = _file_of(patch_set, path, deleted=ours is None)
        files[place] = result[path] = None if ours is None else contents[ours]
    now_installed = there.with_files(result)
    if gone := [row.module for row in there.replaces if row.module not in now_installed.files]:
        what = f"{gone[0]} is gone, but {overlay.overlay_toml(patch_set.name)} says what it replaces"
        raise UsageError(what, hint="take its [[module]] out of there first")
    return Modules(now_installed, every, files)


def _file_of(patch_set: PatchSet, path: str, *, deleted: bool) -> str:
    """The file of overlay/ that a module is, below the repository."""
    folders = paths.overlay_dirs(patch_set.name, patch_set.root)
    could = {folder / path: (folder / path).relative_to(patch_set.root).as_posix() for folder in folders}
    there = [name for file, name in could.items() if file.is_file()]
    if not there:
        hint = f"make an empty file for it, {' or '.join(could.values())}, then export again"
        raise UsageError(f"{path} is a new module: for every set, or for {patch_set.name} alone?", hint=hint)
    if deleted and len(there) > 1:
        hint = "remove what is meant there"
        raise UsageError(f"{path} is deleted in the tree, but there are {' and '.join(there)}", hint=hint)
    return there[-1]
