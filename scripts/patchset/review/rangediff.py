# SPDX-License-Identifier: Apache-2.0
"""The fate of each patch between two series: git's range-diff, with the changes of each changed patch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from patchset.review.scratch import Commits
from patchset.system.git import Repository

_PAIR = re.compile(r"\s*(-|\d+):\s+([0-9a-f]{7,40}|-+) ([=!<>])\s+(-|\d+):\s+([0-9a-f]{7,40}|-+) (.*)")


class Fate(Enum):
    """What became of a patch; the value is what a reader sees."""

    SAME = "same"
    HEADER = "header only"
    CONTEXT = "context only"
    BOTH = "header and context"
    CHANGED = "changed"
    ADDED = "added"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Row:
    """One patch of either series."""

    # Its number in the two series, from 1; 0 where it is not in it.
    before: int
    after: int
    fate: Fate  # what became of it
    subject: str  # of the later commit
    text: str  # git's diff of the two diffs, without its indent


@dataclass(frozen=True)
class RangeDiff:
    """The rows in git's order; `against` says what the series is compared with."""

    against: str
    rows: tuple[Row, ...]

    def count(self) -> dict[Fate, int]:
        """How many patches met each fate, those that none met left out."""
        found = {fate: sum(row.fate is fate for row in self.rows) for fate in Fate}
        return {fate: number for fate, number in found.items() if number}


@dataclass(frozen=True)
class _Pair:
    """A line of range-diff: number and id of the commit on either side, and the diff that follows it."""

    before: int
    before_id: str
    sign: str
    after: int
    after_id: str
    subject: str
    text: str = ""


def compare(before: Commits, after: Commits, label: str) -> RangeDiff:
    """`git range-diff` of two series, each on its own upstream."""
    repository = after.repository
    info = repository.root / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text(f"{before.repository.root / '.git' / 'objects'}\n", encoding="utf-8")
    pairs = _paired(_run(repository, before.patches(), after.patches()), before, after)
    last = [max((pair.before for pair in pairs), default=0), max((pair.after for pair in pairs), default=0)]
    for pair in _run(repository, before.modules(), after.modules(), "--creation-factor=10000"):
        pairs.append(replace(pair, before=pair.before and last[0] + 1, after=pair.after and last[1] + 1))
    return RangeDiff(label, tuple(_row(pair, repository) for pair in pairs))


def _run(repository: Repository, before: str, after: str, *options: str) -> list[_Pair]:
    text = repository.git("range-diff", "--no-color", "--abbrev=40", *options, before, after)
    pairs: list[_Pair] = []
    for line in text.splitlines():
        if found := _PAIR.fullmatch(line):
            numbers = [0 if found[group] == "-" else int(found[group]) for group in (1, 4)]
            pairs.append(_Pair(numbers[0], found[2], found[3], numbers[1], found[5], found[6]))
        elif pairs:
            pairs[-1] = replace(pairs[-1], text=f"{pairs[-1].text}{line.removeprefix('    ')}\n")
    return pairs


def _paired(pairs: list[_Pair], old: Commits, new: Commits) -> list[_Pair]:
    """The pairs, and as one the two halves of a patch of one file name that git finds too unlike for a pair."""
    dropped = {old.names[pair.before - 1]: pair for pair in pairs if pair.sign == "<"}
    added = {new.names[pair.after - 1]: pair for pair in pairs if pair.sign == ">"}
    halves = {added[name]: dropped[name] for name in dropped.keys() & added.keys()}
    found = []
    for pair in pairs:
        if before := halves.get(pair):
            ranges = (f"{commit}^..{commit}" for commit in (before.before_id, pair.after_id))
            (both,) = _run(new.repository, *ranges, "--creation-factor=10000")
            found.append(replace(both, before=before.before, after=pair.after))
        elif pair not in halves.values():
            found.append(pair)
    return found


def _row(pair: _Pair, repository: Repository) -> Row:
    known = {"=": Fate.SAME, "<": Fate.DROPPED, ">": Fate.ADDED}
    fate = known.get(pair.sign) or _fate(repository, pair.before_id, pair.after_id)
    return Row(pair.before, pair.after, fate, pair.subject, pair.text.rstrip("\n"))


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
