# SPDX-License-Identifier: Apache-2.0
"""`patchset export`: the commits of the build tree as patches/<set>.

Nothing is written before the whole is proven: each commit is a patch that `patchfile` reads, the patches fit the
pinned release exactly, and what they make is what the tip of the branch holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset import history, overlay, patchfile, plan
from patchset.authoring import commits, folder, tree
from patchset.errors import TargetModified
from patchset.git import blob_id
from patchset.source import Source
from patchset.upstream import check_given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from patchset.git import Repository
    from patchset.plan import Plan
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal


@dataclass(frozen=True)
class Outcome:
    """What export found and did.

    Attributes:
        patches: the names of the series, in its order.
        changed: files of patches/<set> that were, or would be, written or removed.
        written: whether they were.
        tree: digest of the tree that the patches and the overlay make.
    """

    patches: tuple[str, ...]
    changed: tuple[str, ...]
    written: bool
    tree: str


def run(patch_set: PatchSet, *, upstream: Path | None, offline: bool, dry_run: bool, terminal: Terminal) -> Outcome:
    """Writes patches/<set>: one patch a commit, the series, and the digests in set.toml.

    Raises:
        PatchsetError: patches/ is as before.
    """
    if upstream:
        check_given(patch_set, upstream)
    with tree.session(patch_set) as repository:
        if not dry_run:
            folder.recover(patch_set, "export", terminal)
        tree.refuse_underway(repository, patch_set)
        tree.refuse_changes(repository, patch_set)
        source = Source(patch_set, given=upstream, offline=offline, terminal=terminal)
        files = patches(repository, patch_set)
        made = check(repository, patch_set, files, source.read)
        wanted = folder.with_patches(patch_set, files) | folder.with_result(made)
        changed = folder.differing(patch_set, wanted)
        if not dry_run:
            if changed:
                folder.write(patch_set, "export", changed, terminal)
            repository.git("update-ref", history.SERIES, "HEAD")
        return Outcome(tuple(files), tuple(changed), not dry_run, made.tree)


def patches(repository: Repository, patch_set: PatchSet, tip: str = "HEAD") -> dict[str, bytes]:
    """The commits after `upstream` as patch files, by name, in their order; the overlay's commit left out.

    Raises:
        PatchDoesNotApply, UsageError: a commit is no patch.
    """
    found = commits.read(repository, history.UPSTREAM, tip)
    return commits.patches(repository, commits.without_overlay(repository, found, _overlay(repository, patch_set)))


def _overlay(repository: Repository, patch_set: PatchSet) -> dict[str, frozenset[str]]:
    """Git's ids of what each overlay module holds now, and of what it held when the set was applied."""
    blobs = {path: {blob_id(data)} for path, data in overlay.load(patch_set).files.items()}
    applied = commits.read(repository, history.UPSTREAM, history.SERIES) if repository.ref(history.SERIES) else ()
    if applied and applied[-1].author == history.PERSON:
        for path, blob in commits.after(repository, applied[-1]).items():
            blobs.setdefault(path, set()).add(blob)
    return {path: frozenset(ids) for path, ids in blobs.items()}


def check(
    repository: Repository,
    patch_set: PatchSet,
    files: Mapping[str, bytes],
    read: Callable[[str], bytes],
    tip: str = "HEAD",
) -> Plan:
    """The plan of these patches, which must make what the tip holds.

    Raises:
        PatchDoesNotApply: a patch does not fit the pinned release.
        TargetModified: the branch `upstream` is not the pinned release, or the tip holds something else.
    """
    parsed = [patchfile.parse(name, data) for name, data in files.items()]
    made = plan.make(patch_set, read, parsed)
    ours = _overlay(repository, patch_set)
    base = _blobs(repository, history.UPSTREAM)
    for path in patch_set.sources():
        if base.get(path) != blob_id(read(path)):
            raise _differs(f"{path} on branch {history.UPSTREAM}", patch_set)
    wanted = dict(base)
    for path, change in made.changes.items():
        wanted.pop(path, None)
        if change.after is not None:
            wanted[path] = blob_id(change.after)
    found = _blobs(repository, tip)
    for path in sorted(wanted.keys() | found.keys()):
        if wanted.get(path) != found.get(path) and path not in ours:
            raise _differs(f"{path} at {tip}", patch_set)
    return made


def _blobs(repository: Repository, commit: str) -> dict[str, str]:
    """Git's id of each file of a commit, by path."""
    rows = repository.git("ls-tree", "-r", "-z", commit).split("\0")
    return {path: entry.split()[2] for entry, _, path in (row.partition("\t") for row in rows if row)}


def _differs(what: str, patch_set: PatchSet) -> TargetModified:
    return TargetModified(
        f"{what} is not what the pinned release and the patches make; nothing was written",
        paths=[what.split()[0]],
        hint=f"keep your commits (git branch keep), remove the tree, make apply VERSION={patch_set.name}, pick them",
    )
