# SPDX-License-Identifier: Apache-2.0
"""The git work tree of a port: `git rebase --onto` from the old release to the new one.

    from        the release that the set was made for, and on it the overlay
    upstream    the release that the set is carried to, and on it the overlay
    <set>       the patches; checked out

Conflicts, their markers and their resolution are git's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from patchset.plan import commits, history
from patchset.plan.history import Underway
from patchset.plan.plan import Plan
from patchset.system.git import GitError, Repository

FROM, UPSTREAM = "from", "upstream"
_SERIES, _CARRIED = "refs/patchset/series", "refs/patchset/carried"
_ALIKE = "75%"  # of a file's lines: a licence and some imports make many files half alike
_AS = ("-c", "user.name=patchset", "-c", "user.email=patchset@noreply.invalid", "-c", "core.editor=true")
_REBASE = ("rebase", "--quiet", "--empty=drop", "--no-autosquash", "--no-fork-point", "--no-autostash")


class Outcome(Enum):
    """How a patch fares; in the order of the work that it leaves."""

    ABSORBED = "absorbed"
    CLEAN = "clean"
    MERGED = "merged"
    CONFLICT = "in conflict"
    LOST = "without its file"


@dataclass(frozen=True)
class Stop:
    """Where git stopped: the commit's subject, and the files that are unmerged, with the stages that each has."""

    subject: str
    files: Mapping[str, Mapping[int, str]]

    @property
    def lost(self) -> tuple[str, ...]:
        """The files that the new release does not have."""
        return tuple(path for path, stages in self.files.items() if 1 in stages and 2 not in stages)


@dataclass(frozen=True)
class Tree:
    root: Path  # where it lies
    name: str  # the new set's, and the branch's

    @property
    def repository(self) -> Repository:
        return Repository(self.root)

    @classmethod
    def make(cls, root: Path, name: str, plan: Plan, old: Path, new: Path) -> Tree:
        """Makes the tree anew, the patches of a plan on the release `old` that they were made for."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        repository = Repository(root)
        repository.init(name)
        with (root / ".git" / "config").open("a", encoding="utf-8") as config:
            style = "zdiff3" if repository.version() >= (2, 35) else "diff3"
            config.write(f"[merge]\n\tconflictStyle = {style}\n\trenames = true\n\trenameLimit = 9999\n")
            config.write("[rerere]\n\tenabled = false\n[commit]\n\tgpgSign = false\n")
        for ref, folder in ((FROM, old), (UPSTREAM, new)):
            repository.git("read-tree", "--empty")
            Repository(folder, git_dir=root / ".git").git("add", "--all", "--force", ".")
            tip = repository.commit(f"{folder.name}\n", commits.NOBODY, None)
            if plan.overlay.files:
                repository.stage(plan.overlay.files)
                tip = repository.commit(f"{history.OVERLAY}\n", commits.NOBODY, tip)
            repository.git("update-ref", f"refs/heads/{ref}", tip)
        tree = cls(root, name)
        with commits.scratch(root / ".git" / "objects") as bench:
            made = commits.apply(bench, tree.ref(FROM), plan.recipe.patches)
        repository.git("update-ref", _SERIES, made[-1].id if made else tree.ref(FROM))
        tree.back()
        return tree

    def ref(self, name: str) -> str:
        return self.repository.git("rev-parse", "--verify", f"refs/heads/{name}").strip()

    def back(self) -> None:
        """The patches on the old release, checked out, whatever lies in the work tree."""
        with suppress(GitError):
            self.repository.git("rebase", "--abort")
        shutil.rmtree(self.root / ".git" / "rebase-merge", ignore_errors=True)  # git was killed while it wrote that
        self.repository.git("checkout", "--quiet", "--force", "-B", self.name, _SERIES)
        self.repository.git("clean", "-d", "--force", "--quiet", "-x")

    @property
    def carried(self) -> bool:
        """The patches have been rebased, to the end or to a conflict: from then on the tree is the maintainer's."""
        return bool(self.repository.git("for-each-ref", _CARRIED))

    def carry(self) -> Stop | None:
        """Rebases the patches and notes it; where git stopped, or None. Undoes an interrupted rebase first."""
        self.back()
        stop = self._start()
        self.repository.git("update-ref", _CARRIED, UPSTREAM)
        return stop

    def _start(self) -> Stop | None:
        found = f"--strategy-option=find-renames={_ALIKE}"
        return self._run(*_REBASE, found, "--onto", UPSTREAM, FROM, self.name)

    def _run(self, *arguments: str) -> Stop | None:
        """Lets git rebase; where it stopped, or None."""
        try:
            self.repository.git(*_AS, *arguments)
        except GitError:
            if history.underway(self.root) is Underway.NOTHING:
                raise
            return self.stop()
        return None

    def stop(self) -> Stop:
        listing = self.repository.git("ls-files", "--unmerged", "-z").split("\0")
        files: dict[str, dict[int, str]] = {}
        for row in filter(None, listing):
            fields, _, path = row.partition("\t")
            _, blob, stage = fields.split()
            files.setdefault(path, {})[int(stage)] = blob
        with suppress(GitError):
            return Stop(self.repository.git("log", "-1", "--format=%s", "REBASE_HEAD").strip(), files)
        return Stop("the rebase was cut off and", files)  # git itself was killed, so that none is named

    def take_upstreams_side(self, stop: Stop) -> None:
        """Resolves each conflict in favour of the new release, so that the rebase reaches the later patches."""
        for path, stages in stop.files.items():
            if {1, 2, 3} <= stages.keys():
                with tempfile.TemporaryDirectory(prefix="patchset-") as folder:
                    names = [Path(folder) / name for name in ("ours", "base", "theirs")]
                    for file, stage in zip(names, (2, 1, 3), strict=True):
                        file.write_bytes(self.repository.git_bytes("cat-file", "blob", stages[stage]))
                    merged = self.repository.git_bytes("merge-file", "-p", "--quiet", "--ours", *map(str, names))
                (self.root / path).write_bytes(merged)
                self.repository.git("add", "--force", "--", path)
            elif 2 in stages:
                self.repository.git("checkout", "--quiet", "--ours", "--", path)
                self.repository.git("add", "--force", "--", path)
            else:
                self.repository.git("rm", "--quiet", "--force", "--cached", "--", path)
                (self.root / path).unlink(missing_ok=True)

    def renames(self) -> dict[str, str]:
        """New paths of the old release's files."""
        options = ("-r", "-z", "--name-status", f"--find-renames={_ALIKE}", "--diff-filter=R", "-l9999")
        fields = self.repository.git("diff-tree", *options, FROM, UPSTREAM).split("\0")
        return dict(zip(fields[1::3], fields[2::3], strict=False))

    def assess(self) -> dict[str, tuple[Outcome, Stop | None]]:
        """How each patch fares, by its subject, and where git stopped at it; the work tree is as before afterwards."""
        before = self._diffs(FROM, _SERIES)
        stops: dict[str, Stop] = {}
        stop = self._start()
        while stop:
            stops[stop.subject] = stop
            self.take_upstreams_side(stop)
            stop = self._run("rebase", "--continue")
        after = self._diffs(UPSTREAM, self.name)
        self.back()
        found: dict[str, tuple[Outcome, Stop | None]] = {}
        for subject, diff in before.items():
            if stopped := stops.get(subject):
                found[subject] = Outcome.LOST if stopped.lost else Outcome.CONFLICT, stopped
            elif subject not in after:
                found[subject] = Outcome.ABSORBED, None
            else:
                found[subject] = Outcome.CLEAN if after[subject] == diff else Outcome.MERGED, None
        return found

    def _diffs(self, base: str, tip: str) -> dict[str, str]:
        """What each commit changes, by its subject, without what tells only where in the file that is."""
        found = {}
        for commit in commits.log(self.repository, base, tip):
            diff = self.repository.git("diff-tree", "-r", "-p", *commits.DIFF.split(), f"{commit.id}^", commit.id)
            lines = (line for line in diff.split("\n") if not line.startswith("index "))
            found[commit.subject] = "\n".join("@@" if line.startswith("@@ ") else line for line in lines)
        return found
