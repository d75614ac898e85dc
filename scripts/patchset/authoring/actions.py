# SPDX-License-Identifier: Apache-2.0
"""edit, refresh, new, drop, import: what an author does to one patch, in the build tree.

patches/ stays as it is until `export`. A dry run does the same to a copy of the tree.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from patchset import header, history, message, patchfile
from patchset.authoring import canonical, commits, identity, rework, tree
from patchset.errors import PatchDoesNotApply, UsageError
from patchset.git import GitError, Identity, Repository
from patchset.history import Underway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from patchset.authoring.commits import Commit
    from patchset.patchfile import Patch
    from patchset.setfile import PatchSet

_SCRATCH_INDEX = "patchset-import"


@dataclass(frozen=True)
class Outcome:
    """What an author's command did.

    Attributes:
        result: what happened, a few words.
        patch: the patch that it was about; empty where git only went on.
        next: the next command.
        worktree: the tree.
    """

    result: str
    patch: str
    next: str
    worktree: Path


@dataclass(frozen=True)
class Author:
    """An author's work on one set.

    Attributes:
        patch_set: the set.
        repository: the build tree, or a copy of it in a dry run.
        dry_run: whether it is a copy.
    """

    patch_set: PatchSet
    repository: Repository
    dry_run: bool

    def edit(self, name: str) -> Outcome:
        """Takes the tree back to where a patch has just been applied, to change it there.

        Raises:
            UsageError: there is no such patch.
            TargetModified: the tree has changes, or git is in the middle of something.
        """
        self._at_rest()
        series = self._series()
        one = commits.find(series, name)
        rework.rebase(self.repository, [("edit" if row is one else "pick", row) for row in series])
        return self._outcome(
            f"the tree is at {one.message.patch or one.title}; change it, then refresh",
            one.message.patch,
            f"patchset refresh {self.patch_set.name}",
        )

    def refresh(self, name: str | None) -> Outcome:
        """Takes the tree's changes into a patch: the one that is being edited, or the one that is named.

        Raises:
            UsageError: no patch is named and none is being edited; or there is nothing to take.
            Conflict: a later patch does not fit any more.
        """
        if name is None:
            if history.underway(self.repository.root) is Underway.NOTHING:
                raise UsageError("which patch?", hint=f"patchset refresh {self.patch_set.name} PATCH")
            return self.resume()
        tree.refuse_underway(self.repository, self.patch_set)
        changed = tree.changes(self.repository, self.patch_set)
        if not changed:
            raise UsageError(f"{self.repository.root} has no change to take into {name}")
        series = self._series()
        one = commits.find(series, name)
        rework.fold(self.repository, series, one, changed)
        return self._outcome(f"took {len(changed)} files into {one.message.patch or one.title}", one.message.patch)

    def new(self, subject: str, body: str, fields: Mapping[str, str], author: str) -> Outcome:
        """Makes a patch of the tree's changes, or an empty one to be refreshed, after the others.

        Args:
            subject: its Subject.
            body: why and how; may come later, with git commit --amend.
            fields: of its header; the rest has the values that a patch of ours begins with.
            author: `Name <address>`; empty for the one that git is configured with.

        Raises:
            UsageError: a field is not known, or there is no author.
        """
        tree.refuse_underway(self.repository, self.patch_set)
        if unknown := sorted(fields.keys() - set(header.TRAILERS)):
            raise UsageError(f"{unknown[0]} is no field of a header", hint=f"fields: {', '.join(header.TRAILERS)}")
        series = self._series()
        name = commits.next_name(series, subject)
        values = {"Origin": "vendor", "Forwarded": "no", "Upstream-Status": "Pending", **fields}
        changed = tree.changes(self.repository, self.patch_set)
        said = message.compose(subject, body, values, name)
        rework.commit(self.repository, changed, said.render(), author or identity.configured(self.repository.root))
        missing = [field for field in header.REQUIRED if field in header.TRAILERS and not values.get(field)]
        missing += [] if body else ["a text that says why and how"]
        step = f"git -C {self.repository.root} commit --amend, to add {', '.join(missing)}" if missing else ""
        return self._outcome(f"made {name} of {len(changed)} changed files", name, step)

    def drop(self, name: str) -> Outcome:
        """Leaves a patch out, and makes those after it anew.

        Raises:
            UsageError: there is no such patch.
            Conflict: a later patch needs what it did.
        """
        self._at_rest()
        series = self._series()
        one = commits.find(series, name)
        rework.rebase(self.repository, [("pick", row) for row in series if row is not one])
        return self._outcome(f"dropped {one.message.patch or one.title}", one.message.patch)

    def bring(self, file: Path, fields: Mapping[str, str]) -> Outcome:
        """Makes a commit of a patch file, after the others: exactly, at another line, or merged three-way.

        Args:
            file: a patch of ours, or one that git format-patch made.
            fields: of the header, to add or to replace.

        Raises:
            PatchDoesNotApply: it is malformed, lacks a field, or fits nowhere.
            Conflict: it fits in part.
        """
        self._at_rest()
        series = self._series()
        patch = _read(file, fields)
        taken = {row.message.patch for row in series}
        name = patch.name if patch.name not in taken else commits.next_name(series, patch.header.subject)
        rework.pick(self.repository, [_as_commit(self.repository, patch, name)])
        return self._outcome(f"imported {name}", name)

    def resume(self) -> Outcome:
        """Goes on after a conflict, or after an edit.

        Raises:
            UsageError: nothing is under way.
            Conflict: there is another conflict, or this one is not resolved.
        """
        done = rework.resume(self.repository, tree.changes(self.repository, self.patch_set))
        name = self.patch_set.name
        return self._outcome("done" if done else "stopped at an edit", "", "" if done else f"patchset refresh {name}")

    def abandon(self) -> Outcome:
        """Gives the tree back as it was before.

        Raises:
            UsageError: nothing is under way.
        """
        rework.abandon(self.repository)
        return self._outcome("given back as it was before", "", f"patchset status {self.patch_set.name}")

    def _at_rest(self) -> None:
        tree.refuse_underway(self.repository, self.patch_set)
        tree.refuse_changes(self.repository, self.patch_set)

    def _series(self) -> tuple[Commit, ...]:
        """Every commit, that of the overlay too."""
        return commits.read(self.repository, history.UPSTREAM, "HEAD")

    def _outcome(self, result: str, patch: str, step: str = "") -> Outcome:
        following = step or f"patchset export {self.patch_set.name}"
        return Outcome(result, patch, following, self.repository.root)


@contextmanager
def author(patch_set: PatchSet, *, dry_run: bool = False) -> Iterator[Author]:
    """An author's work on the build tree of a set, which is locked meanwhile."""
    with tree.session(patch_set) as repository:
        if not dry_run:
            yield Author(patch_set, repository, dry_run=False)
            return
        with tempfile.TemporaryDirectory(prefix="patchset-") as scratch:
            copy = Path(scratch) / repository.root.name
            shutil.copytree(repository.root, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            yield Author(patch_set, Repository(copy), dry_run=True)


def _read(file: Path, fields: Mapping[str, str]) -> Patch:
    """Reads a patch file leniently, with these header fields added or replaced."""
    data = canonical.relax(patchfile.read(file))
    return patchfile.parse(file.name, canonical.with_fields(data, fields) if fields else data)


def _as_commit(repository: Repository, patch: Patch, name: str) -> str:
    """A commit that makes a patch's change, on HEAD where it fits, else on the very contents that it was made from."""
    index = Repository(repository.root, _SCRATCH_INDEX)
    said = message.compose(patch.header.subject, patch.header.body, dict(patch.header.fields), name)
    who = Identity(patch.header.author, patch.header.get("Date"))
    head = repository.ref("HEAD")
    try:
        index.git("read-tree", "HEAD")
        try:
            index.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=patch.diff)
        except GitError as error:
            head = _base(index, patch, str(error))
            index.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=patch.diff)
        return index.commit(said.render(), who, head)
    finally:
        (repository.root / ".git" / _SCRATCH_INDEX).unlink(missing_ok=True)


def _base(index: Repository, patch: Patch, why: str) -> str:
    """Commits HEAD with the contents that a patch was made from, which its index lines name."""
    rows = []
    for file in patch.files:
        kept = index.git("ls-files", "-s", "-z", "--", file.path).rstrip("\0").split()
        if file.creates:
            rows.append(f"0 {'0' * 40}\t{file.path}\0")
            continue
        try:
            index.git("cat-file", "-e", file.old_blob)
        except GitError:
            raise PatchDoesNotApply(
                f"{patch.name} does not fit, and what it was made from is not known here: {why}",
                patch=patch.name,
                path=file.path,
                hint="make the change by hand in the tree, then patchset new",
            ) from None
        mode = kept[0] if kept else "100644"
        rows.append(f"{mode} {file.old_blob}\t{file.path}\0")
    index.git("update-index", "--add", "-z", "--index-info", stdin="".join(rows).encode())
    return index.commit("what the patch was made from\n", Identity(history.PERSON, "2000-01-01T00:00:00+0000"), "HEAD")
