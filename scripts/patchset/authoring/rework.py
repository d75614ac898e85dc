# SPDX-License-Identifier: Apache-2.0
"""Changing commits of a build tree, with git's own rebase and cherry-pick.

Their state is git's: it outlives a crash, `git status` tells it, and `resume` and `abandon` end it. A conflict is left
in the work tree, to be resolved there.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from patchset import history, message
from patchset.authoring import tree
from patchset.authoring.commits import read
from patchset.errors import PatchDoesNotApply, UsageError
from patchset.git import GitError
from patchset.history import Underway

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from patchset.authoring.commits import Commit
    from patchset.git import Repository

_MARKER = re.compile(rb"^(<{7} |>{7} |={7}$)", re.MULTILINE)
_FIXUP = "fixup! "
_SETTINGS = {
    "user.name": "patchset",  # the committer; an author stays who it is
    "user.email": "patchset@noreply.invalid",
    "commit.gpgSign": "false",
    "core.editor": "true",
    "merge.conflictStyle": "merge",
    "rebase.autoStash": "false",
    "rebase.updateRefs": "false",
    "rebase.missingCommitsCheck": "ignore",
    "rebase.instructionFormat": "%s",
}


class Conflict(PatchDoesNotApply):
    """A patch does not fit what is before it now; git has left both sides in the work tree.

    Attributes:
        worktree: where to resolve it.
        paths: the files with a conflict.
    """

    def __init__(self, patch: str, worktree: Path, paths: Sequence[str], why: str) -> None:
        shown = "".join(f"\n  {path}" for path in paths)
        super().__init__(f"{patch}: {why}{shown}\n  in {worktree}", patch=patch, path=paths[0] if paths else "")
        self.worktree = worktree
        self.paths = tuple(paths)


def rebase(repository: Repository, todo: Iterable[tuple[str, Commit]], base: str = history.UPSTREAM) -> bool:
    """Makes the branch anew: each (action, commit) of `git rebase -i`, from `base` on.

    Returns:
        whether it is done; False where it stopped at an `edit`.

    Raises:
        Conflict: a commit does not fit; `resume` or `abandon` goes on.
    """
    text = "".join(f"{action} {row.id} {row.message.subject}\n" for action, row in todo) or "noop\n"
    script = repository.root / ".git" / "patchset-todo"
    script.write_text(text, encoding="utf-8")
    editor = f"sequence.editor=cp {shlex.quote(str(script))}"
    return _run(
        repository, "-c", editor, "rebase", "--interactive", "--empty=keep", "--no-autosquash", "--no-fork-point", base
    )


def pick(repository: Repository, commits: Sequence[str]) -> bool:
    """Brings commits to the tip, one after the other, merging three-way; returns and raises as `rebase`."""
    return _run(repository, "cherry-pick", "--allow-empty", "--keep-redundant-commits", "--ff", *commits)


def resume(repository: Repository, changed: Iterable[str] = ()) -> bool:
    """Goes on with what git is in the middle of: takes the work tree as it is into the commit it stopped at.

    Args:
        repository: where.
        changed: new and changed files to take along.

    Raises:
        Conflict: a conflict is not resolved yet, or the next commit has one.
        UsageError: nothing is under way.
    """
    what = history.underway(repository.root)
    if what is Underway.NOTHING:
        raise UsageError(f"nothing is under way in {repository.root}")
    open_ = tree.unmerged(repository)
    if marked := [path for path in open_ if _has_markers(repository.root / path)]:
        raise Conflict(_stopped_at(repository), repository.root, marked, "these still have conflict markers:")
    stage(repository, {*open_, *changed})
    return _run(repository, what.value, "--continue")


def abandon(repository: Repository) -> None:
    """Gives the branch and the work tree back as they were before.

    Raises:
        UsageError: nothing is under way.
    """
    what = history.underway(repository.root)
    if what is Underway.NOTHING:
        raise UsageError(f"nothing is under way in {repository.root}")
    _git(repository, what.value, "--abort")
    if _git(repository, "log", "-1", "--format=%s").startswith(_FIXUP):
        _git(repository, "reset", "--quiet", "--mixed", "HEAD~1")  # what `refresh` took is the author's again


def fold(repository: Repository, commits: Sequence[Commit], into: Commit, changed: Sequence[str]) -> bool:
    """Takes changes of the work tree into one of the commits, and makes those after it anew.

    Returns and raises as `rebase`.
    """
    extra = commit(repository, changed, f"{_FIXUP}{into.message.subject}\n")
    rows = [("pick", row) for row in commits]
    at = commits.index(into) + 1
    return rebase(repository, [*rows[:at], ("fixup", extra), *rows[at:]])


def commit(repository: Repository, changed: Iterable[str], text: str, author: str = "") -> Commit:
    """Commits these files of the work tree, with or without a change."""
    stage(repository, changed)
    by = (f"--author={author}",) if author else ()
    _git(
        repository,
        *("commit", "--quiet", "--allow-empty", "--no-verify", "--cleanup=whitespace", "--file=-", *by),
        stdin=text.encode(),
    )
    return read(repository, "HEAD~1", "HEAD")[0]


def stage(repository: Repository, changed: Iterable[str]) -> None:
    """Puts the work tree's content of these files into the index; a file that is gone is removed."""
    if paths := sorted(changed):
        options = ("--all", "--force", "--pathspec-from-file=-", "--pathspec-file-nul")
        _git(repository, "--literal-pathspecs", "add", *options, stdin="\0".join([*paths, ""]).encode())


def _run(repository: Repository, *arguments: str) -> bool:
    try:
        _git(repository, *arguments)
    except GitError:
        if history.underway(repository.root) is Underway.NOTHING:
            raise
        if not (paths := tree.unmerged(repository)):
            raise
        raise Conflict(
            _stopped_at(repository), repository.root, paths, "does not fit what is before it now; conflicts in:"
        ) from None
    return history.underway(repository.root) is Underway.NOTHING


def _git(repository: Repository, *arguments: str, stdin: bytes = b"") -> str:
    settings = (word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}"))
    return repository.git(*settings, *arguments, stdin=stdin)


def _stopped_at(repository: Repository) -> str:
    """The patch that git stopped at, or its commit."""
    for name in ("REBASE_HEAD", "CHERRY_PICK_HEAD"):
        if repository.ref(name):
            said = message.parse(repository.git("log", "-1", "--format=%B", name))
            return said.patch or said.subject
    return "the commit"


def _has_markers(file: Path) -> bool:
    return file.is_file() and bool(_MARKER.search(file.read_bytes()))
