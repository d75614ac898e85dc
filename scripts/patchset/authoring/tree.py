# SPDX-License-Identifier: Apache-2.0
"""The build tree as an author's work tree: what is committed, what is not, and what git is in the middle of."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from patchset import history
from patchset.errors import TargetModified, UsageError
from patchset.git import Repository
from patchset.state import Store
from patchset.target import build_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from patchset.setfile import PatchSet

_SHOWN = 10


class Underway(Enum):
    """What git is in the middle of; the value is its command."""

    NOTHING = ""
    REBASE = "rebase"
    PICK = "cherry-pick"


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
    with store.session():
        if store.journal():
            raise UsageError(f"a run was cut off in {target.root}", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
        repository = Repository(target.root)
        if repository.ref(history.UPSTREAM) is None or repository.ref(patch_set.name) is None:
            raise UsageError(
                f"{target.root} lacks the branch {history.UPSTREAM} or {patch_set.name}",
                hint=f"remove the tree, then make apply VERSION={patch_set.name} SMOKE=0",
            )
        yield repository


def underway(repository: Repository) -> Underway:
    """What git is in the middle of."""
    folder = repository.root / ".git"
    if (folder / "rebase-merge").is_dir() or (folder / "rebase-apply").is_dir():
        return Underway.REBASE
    if (folder / "CHERRY_PICK_HEAD").is_file() or (folder / "sequencer").is_dir():
        return Underway.PICK
    return Underway.NOTHING


def refuse_underway(repository: Repository, patch_set: PatchSet) -> None:
    """Raises TargetModified where a rebase or a cherry-pick is not finished."""
    if (what := underway(repository)) is not Underway.NOTHING:
        raise TargetModified(
            f"a {what.value} is under way in {repository.root}",
            paths=unmerged(repository),
            hint=f"patchset edit {patch_set.name} --continue, or --abort",
        )


def refuse_changes(repository: Repository, hint: str) -> None:
    """Raises TargetModified where a tracked file has changes that no commit has."""
    if paths := changes(repository):
        shown = paths[:_SHOWN] + ([f"and {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else [])
        raise TargetModified(
            f"{repository.root} has changes that are in no commit\n  " + "\n  ".join(shown), paths=paths, hint=hint
        )


def changes(repository: Repository) -> list[str]:
    """Tracked files, and new ones that git does not ignore, that differ from HEAD."""
    rows = repository.git("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all").split("\0")
    return sorted(row[3:] for row in rows if row)


def unmerged(repository: Repository) -> list[str]:
    """Files with a conflict that is not resolved."""
    return [path for path in repository.git("diff", "--name-only", "--diff-filter=U", "-z").split("\0") if path]
