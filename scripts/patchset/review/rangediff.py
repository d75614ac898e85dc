# SPDX-License-Identifier: Apache-2.0
"""What became of each patch between two series: git's own range-diff, and for a changed patch, what of it changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patchset.git import Repository
    from patchset.review.scratch import Commits

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
    """One patch of either series.

    Attributes:
        before, after: its number in the two series, from 1; 0 where it is not in it.
        fate: what became of it.
        subject: of the later commit.
        text: git's diff of the two diffs, without its indent.
    """

    before: int
    after: int
    fate: Fate
    subject: str
    text: str


@dataclass(frozen=True)
class RangeDiff:
    """The rows in git's order; `against` says what the series is compared with."""

    against: str
    rows: tuple[Row, ...]

    def count(self) -> dict[Fate, int]:
        """How many patches met each fate, those that none met left out."""
        found = {fate: sum(row.fate is fate for row in self.rows) for fate in Fate}
        return {fate: number for fate, number in found.items() if number}


def compare(before: Commits, after: Commits, label: str) -> RangeDiff:
    """`git range-diff` of two series, each on its own upstream."""
    repository = after.repository
    info = repository.root / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text(f"{before.repository.root / '.git' / 'objects'}\n", encoding="utf-8")
    text = repository.git("range-diff", "--no-color", "--abbrev=40", before.changes(), after.changes())
    return RangeDiff(label, parse(text, repository))


def parse(text: str, repository: Repository) -> tuple[Row, ...]:
    """Reads what git prints; the repository tells what of a changed commit changed."""
    rows: list[tuple[re.Match[str], list[str]]] = []
    for line in text.splitlines():
        if found := _PAIR.fullmatch(line):
            rows.append((found, []))
        elif rows:
            rows[-1][1].append(line.removeprefix("    "))
    return tuple(_row(found, body, repository) for found, body in rows)


def _row(found: re.Match[str], body: list[str], repository: Repository) -> Row:
    before, after = (0 if found[group] == "-" else int(found[group]) for group in (1, 4))
    fate = {"=": Fate.SAME, "<": Fate.DROPPED, ">": Fate.ADDED}.get(found[3]) or _fate(repository, found[2], found[5])
    return Row(before, after, fate, found[6], "\n".join(body))


def _fate(repository: Repository, before: str, after: str) -> Fate:
    """Of two commits that differ: whether a line that they add or remove does, or only what is around."""
    if _changed_lines(repository, before) != _changed_lines(repository, after):
        return Fate.CHANGED
    header = _message(repository, before) != _message(repository, after)
    context = _diff(repository, before) != _diff(repository, after)
    return Fate.BOTH if header and context else Fate.HEADER if header else Fate.CONTEXT


def _diff(repository: Repository, commit: str, *options: str) -> str:
    """The commit's diff, without what tells only where in the file it is."""
    text = repository.git("diff-tree", "-p", "--no-commit-id", "--no-color", "--no-renames", *options, commit)
    return re.sub(r"^(index .*|@@ .*)\n", "", text, flags=re.MULTILINE)


def _changed_lines(repository: Repository, commit: str) -> str:
    return _diff(repository, commit, "--unified=0")


def _message(repository: Repository, commit: str) -> str:
    return repository.git("show", "--no-patch", "--format=%B", commit)
