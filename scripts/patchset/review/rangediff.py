# SPDX-License-Identifier: Apache-2.0
"""A plan's commits, in a repository for one run, and what became of each since another plan: git's range-diff."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from patchset.plan import history
from patchset.plan.plan import Plan
from patchset.system.git import Repository

_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--no-renames", "--histogram")
_PAIR = re.compile(r"\s*(-|\d+):\s+([0-9a-f]{7,40}|-+) ([=!<>])\s+(-|\d+):\s+([0-9a-f]{7,40}|-+) (.*)")


@dataclass(frozen=True)
class Commits:
    """Upstream, on it the overlay, and then one commit for each patch."""

    repository: Repository  # where they are
    # The first commit, the one of the overlay (the first, where there is none), the last.
    upstream: str
    overlay: str
    tip: str
    names: tuple[str, ...]  # the patches' file names, in the order of their commits

    def net_diff(self) -> str:
        return self.repository.git("diff", *_DIFF, self.overlay, self.tip)


@contextmanager
def commits(plan: Plan) -> Iterator[Commits]:
    """Makes the commits; they go when the block ends. Raises PatchDoesNotApply: git does not apply a patch."""
    with tempfile.TemporaryDirectory(prefix="patchset-review-") as folder:
        root = Path(folder)
        tip = history.write(root, plan.recipe, plan.upstream.__getitem__, ()).tip
        repository = Repository(root)
        upstream = str(repository.ref(history.UPSTREAM))
        overlay = repository.git("rev-parse", f"{tip}~{len(plan.recipe.patches)}").strip()
        yield Commits(repository, upstream, overlay, tip, tuple(patch.name for patch in plan.recipe.patches))


class Fate(Enum):
    SAME = "same"
    HEADER = "header only"
    CONTEXT = "context only"
    BOTH = "header and context"
    CHANGED = "changed"
    ADDED = "added"
    DROPPED = "dropped"


_FATES = {"=": Fate.SAME, "<": Fate.DROPPED, ">": Fate.ADDED}  # by range-diff's sign


@dataclass(frozen=True)
class Row:
    # Its number in the two series, from 1; 0 where it is not in it.
    before: int
    after: int
    fate: Fate
    subject: str  # of the later commit
    commits: tuple[str, str]  # on either side; dashes where there is none
    text: str = ""  # git's diff of the two diffs, without its indent


@dataclass(frozen=True)
class RangeDiff:
    """The rows in git's order; `against` says what the series is compared with."""

    against: str
    rows: tuple[Row, ...]

    def count(self) -> dict[Fate, int]:
        return {fate: number for fate in Fate if (number := sum(row.fate is fate for row in self.rows))}


def compare(before: Commits, after: Commits, label: str) -> RangeDiff:
    """`git range-diff` of two series, each on its own upstream."""
    repository = after.repository
    info = repository.root / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text(f"{before.repository.root / '.git' / 'objects'}\n", encoding="utf-8")
    rows = _paired(_run(repository, *(f"{one.overlay}..{one.tip}" for one in (before, after))), before, after)
    last = [max((row.before for row in rows), default=0), max((row.after for row in rows), default=0)]
    modules = (f"{one.upstream}..{one.overlay}" for one in (before, after))
    for row in _run(repository, *modules, "--creation-factor=10000"):
        rows.append(replace(row, before=row.before and last[0] + 1, after=row.after and last[1] + 1))
    return RangeDiff(label, tuple(rows))


def _run(repository: Repository, before: str, after: str, *options: str) -> list[Row]:
    text = repository.git("range-diff", "--no-color", "--abbrev=40", *options, before, after)
    rows: list[Row] = []
    for line in text.splitlines():
        if found := _PAIR.fullmatch(line):
            numbers = [0 if found[group] == "-" else int(found[group]) for group in (1, 4)]
            commits = found[2], found[5]
            fate = _FATES.get(found[3]) or _fate(repository, *commits)
            rows.append(Row(numbers[0], numbers[1], fate, found[6], commits))
        elif rows:
            told = f"{rows[-1].text}\n{line.removeprefix('    ')}"
            rows[-1] = replace(rows[-1], text=told.strip("\n"))
    return rows


def _paired(rows: list[Row], old: Commits, new: Commits) -> list[Row]:
    """The rows, and as one the two halves of a patch of one file name that git finds too unlike for a pair."""
    dropped = {old.names[row.before - 1]: row for row in rows if row.fate is Fate.DROPPED}
    added = {new.names[row.after - 1]: row for row in rows if row.fate is Fate.ADDED}
    halves = {added[name]: dropped[name] for name in dropped.keys() & added.keys()}
    found = []
    for row in rows:
        if before := halves.get(row):
            ranges = (f"{commit}^..{commit}" for commit in (before.commits[0], row.commits[1]))
            (both,) = _run(new.repository, *ranges, "--creation-factor=10000")
            found.append(replace(both, before=before.before, after=row.after))
        elif row not in halves.values():
            found.append(row)
    return found


def _fate(repository: Repository, before: str, after: str) -> Fate:
    """Of two commits that differ: whether a line that they add or remove does, or only what is around."""
    if _diff(repository, before, "--unified=0") != _diff(repository, after, "--unified=0"):
        return Fate.CHANGED
    messages = [repository.git("show", "--no-patch", "--format=%B", commit) for commit in (before, after)]
    header = messages[0] != messages[1]
    context = _diff(repository, before) != _diff(repository, after)
    return Fate.BOTH if header and context else Fate.HEADER if header else Fate.CONTEXT


def _diff(repository: Repository, commit: str, *options: str) -> str:
    """The commit's diff, without what tells only where in the file it is."""
    text = repository.git("diff-tree", "-p", "--no-commit-id", "--no-color", "--no-renames", *options, commit)
    return re.sub(r"^(index .*|@@ .*)\n", "", text, flags=re.MULTILINE)
