# SPDX-License-Identifier: Apache-2.0
"""The git work tree of a port: both upstreams and the old series as commits of one repository.

    from        upstream that the set was made for
    patch/<n>   the set's patches on it, one commit each
    to          upstream that the set is carried to
    <set>       what has been carried so far; checked out

Every blob is real, so that git merges with the true base. Files that the new upstream has moved lie at their new paths
before the first patch, so that a merge need not find them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset.authoring import canonical
from patchset.errors import Unavailable
from patchset.git import GitError, Identity, Repository
from patchset.port import renames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from patchset.plan import Plan

FROM, TO = "refs/heads/from", "refs/heads/to"
MARKERS = (b"<<<<<<< ", b"||||||| ", b">>>>>>> ")
_IDENTITY = Identity("patchset <patchset@noreply.invalid>", "2000-01-01T00:00:00+0000")
_MERGE = ("-c", "merge.conflictStyle=diff3", "-c", "merge.renames=false")


@dataclass(frozen=True)
class Workshop:
    """The repository.

    Attributes:
        root: the work tree.
        name: the new set's name, and the branch that is checked out.
        renames: new paths of the old upstream's files.
    """

    root: Path
    name: str
    renames: Mapping[str, str]

    @property
    def repository(self) -> Repository:
        return Repository(self.root)

    @property
    def branch(self) -> str:
        return f"refs/heads/{self.name}"

    @classmethod
    def make(cls, root: Path, name: str, plan: Plan, old: Path, new: Path) -> Workshop:
        """Makes the repository.

        Args:
            root: the work tree; what is there is replaced.
            name: the new set's.
            plan: of the set that is carried.
            old, new: both upstreams.
        """
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        Repository(root).init(name)
        shop = cls(root, name, {})
        base, tip = shop._import(new, TO), shop._import(old, FROM)
        moved = renames.find(shop.repository, FROM, TO, old, new)
        shop = cls(root, name, moved)
        if moved:
            shop._stage({path: data for pair in moved.items() for path, data in _move(old, *pair)}, set())
            tip = shop.repository.commit("Files at the paths that they have in the new upstream\n", _IDENTITY, tip)
        for number, step in enumerate(plan.steps, start=1):
            after = {moved.get(path, path): data for path, data in step.after.items()}
            shop._stage(after, {file.path for file in step.patch.files if file.executable})
            tip = shop.repository.commit(f"{step.patch.name}\n", _IDENTITY, tip)
            shop.repository.git("update-ref", f"refs/patch/{number}", tip)
        shop.reset(base)
        return shop

    def _import(self, folder: Path, ref: str) -> str:
        """Commits a folder as it is; the commit."""
        repository = self.repository
        repository.git("read-tree", "--empty")
        Repository(folder, git_dir=self.root / ".git").git("add", "--all", "--force", ".")
        commit = repository.commit(f"{folder.name}\n", _IDENTITY, None)
        repository.git("update-ref", ref, commit)
        return commit

    def _stage(self, files: Mapping[str, bytes | None], executable: set[str]) -> None:
        lines = []
        for path, data in files.items():
            if data is None:
                lines.append(f"0 {'0' * 40}\t{path}\0")
            else:
                mode = "100755" if path in executable else "100644"
                lines.append(f"{mode} {self.repository.add_blob(data)}\t{path}\0")
        self.repository.git("update-index", "--add", "-z", "--index-info", stdin="".join(lines).encode())

    def reset(self, commit: str) -> None:
        """Checks a commit out, whatever lies in the work tree."""
        self.repository.git("symbolic-ref", "HEAD", self.branch)
        self.repository.git("update-ref", self.branch, commit)
        self.repository.git("reset", "--quiet", "--hard", commit)
        self.repository.git("clean", "-d", "--force", "--quiet", "-x")

    @property
    def tip(self) -> str:
        """The commit up to which the series has been carried."""
        found = self.repository.ref(self.branch)
        if found is None:
            raise Unavailable(f"{self.root} has lost its branch {self.name}", hint="patchset port --abort, then again")
        return found

    @property
    def base(self) -> str:
        """The commit of the new upstream."""
        found = self.repository.ref(TO)
        if found is None:
            raise Unavailable(f"{self.root} has lost its upstream", hint="patchset port --abort, then again")
        return found

    def pick(self, number: int, *, ours: bool = False) -> tuple[str, ...]:
        """Merges patch `number` of the old series into the work tree and the index; commits nothing.

        Args:
            number: from 1.
            ours: where both sides changed the same lines, keep those of the new upstream.

        Returns:
            Paths with conflicts.
        """
        strategy = ("--strategy-option=ours",) if ours else ()
        try:
            self.repository.git(*_MERGE, "cherry-pick", "--no-commit", *strategy, f"refs/patch/{number}")
        except GitError:
            if not (unmerged := self.unmerged()):
                raise
            return unmerged
        return ()

    def unmerged(self) -> tuple[str, ...]:
        """Paths whose index entries are still those of a conflict."""
        listing = self.repository.git("ls-files", "--unmerged", "-z")
        return tuple(dict.fromkeys(row.partition("\t")[2] for row in listing.split("\0") if row))

    def settle(self) -> None:
        """Takes the new upstream's side of each path that is still unmerged, be it a file or none."""
        for path in self.unmerged():
            kept = self.read(self.tip, path) is not None
            self.repository.git(*(("checkout", self.tip) if kept else ("rm", "--force", "--quiet")), "--", path)

    def commit(self, message: str, parent: str) -> str:
        """Commits the work tree on `parent`, whatever of it has been added or committed, and moves the branch there."""
        self.repository.git("add", "--all", "--force", ".")
        commit = self.repository.commit(message, _IDENTITY, parent)
        self.repository.git("update-ref", self.branch, commit)
        self.repository.git("reset", "--quiet", "--hard", commit)
        return commit

    def read(self, commit: str, path: str) -> bytes | None:
        """A file's content in a commit; None where it has none."""
        row = self.repository.git("ls-tree", "-z", commit, "--", path)
        if not row:
            return None
        return self.repository.git_bytes("cat-file", "blob", row.split()[2])

    def changed(self, before: str, after: str) -> tuple[str, ...]:
        """Paths that differ between two commits."""
        listing = self.repository.git("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
        return tuple(path for path in listing.split("\0") if path)

    def diff(self, before: str, after: str) -> bytes:
        """A patch's text, as the files of a series have it."""
        return canonical.diff(self.repository, before, after)

    def with_markers(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Which of the files still hold conflict markers."""
        found = []
        for path in paths:
            file = self.root / path
            if file.is_file() and any(line.startswith(MARKERS) for line in file.read_bytes().splitlines()):
                found.append(path)
        return tuple(found)


def _move(tree: Path, before: str, after: str) -> Iterator[tuple[str, bytes | None]]:
    yield before, None
    yield after, (tree / before).read_bytes()
