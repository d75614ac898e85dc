# SPDX-License-Identifier: Apache-2.0
"""The build tree as an author's work tree: its commits, its uncommitted changes, and an unfinished git operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from patchset.node.errors import TargetModified, UsageError, first_of
from patchset.plan import history
from patchset.plan.history import Underway
from patchset.sets.setfile import PatchSet
from patchset.system.git import Repository
from patchset.system.state import Store
from patchset.target import change
from patchset.target.locate import build_tree

_SHOWN = 10


@contextmanager
def session(patch_set: PatchSet) -> Iterator[Repository]:
    """The repository of an applied build tree, locked against apply and revert.

    Raises:
        UsageError: nothing is applied there, or a run was cut off.
        Locked: another run works on it.
    """
    target = build_tree(patch_set)
    if not (target.root / ".git").is_dir():
        raise UsageError(f"{target.root} is not there", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
    store = Store(target.state)
    with change.session(target, store):
        if store.journal():
            raise UsageError(f"a run was cut off in {target.root}", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
        repository = Repository(target.root)
        if repository.ref(history.UPSTREAM) is None or repository.ref(patch_set.name) is None:
            raise UsageError(
                f"{target.root} lacks the branch {history.UPSTREAM} or {patch_set.name}",
                hint=f"remove the tree, then make apply VERSION={patch_set.name} SMOKE=0",
            )
        yield repository


def refuse_underway(repository: Repository) -> None:
    """Raises TargetModified where git is in the middle of something."""
    if (what := history.underway(repository.root)) is not Underway.NOTHING:
        raise TargetModified(
            f"a {what.value} is under way in {repository.root}",
            paths=unmerged(repository),
            hint=f"git -C {repository.root} {what.value} --continue, or --abort",
        )


def refuse_changes(repository: Repository, patch_set: PatchSet) -> None:
    """Raises TargetModified where a file has changes that no commit has."""
    if paths := changes(repository, patch_set):
        raise TargetModified(
            f"{repository.root} has changes that are in no commit\n  " + "\n  ".join(first_of(paths, _SHOWN)),
            paths=paths,
            hint="git commit them; --fixup=ID and git rebase -i --autosquash upstream take them into a patch",
        )


def changes(repository: Repository, patch_set: PatchSet) -> list[str]:
    """Files that differ from HEAD: tracked ones, and new ones of the package that git does not ignore."""
    rows = repository.git("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all").split("\0")
    package = f"{patch_set.package}/"
    return sorted(row[3:] for row in rows if row and (row[:2] != "??" or row[3:].startswith(package)))


def unmerged(repository: Repository) -> list[str]:
    """Files with a conflict that is not resolved."""
    rows = repository.git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    return sorted({path for path in rows if path})
