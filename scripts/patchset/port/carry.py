# SPDX-License-Identifier: Apache-2.0
"""What becomes of each patch on another upstream, told by content alone.

A patch is not taken for absorbed because it can be reversed there: a missing file, or a later patch of the series,
makes that say anything. It is absorbed where the merge of it leaves the new upstream's bytes as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from patchset import exact

if TYPE_CHECKING:
    from patchset.patchfile import Patch
    from patchset.plan import Plan
    from patchset.port.workshop import Workshop
    from patchset.textdiff import FilePatch, Hunk


class Outcome(Enum):
    """How a file of a patch, or the patch, fares; in the order of the work that it leaves."""

    ABSORBED = "absorbed upstream"
    CLEAN = "clean"
    OFFSET = "clean at an offset"
    MERGED = "clean, merged around upstream's changes"
    RENAMED = "renamed"
    CONFLICT = "conflict"
    DELETED = "target deleted"


_WORK = tuple(Outcome)


@dataclass(frozen=True)
class HunkFate:
    """One hunk on the new upstream.

    Attributes:
        number: from 1.
        line: where its old lines stand now, or its new ones if it is there already; None where neither does.
        offset: how far that is from where the patch says.
        there: whether its result stands there and what it replaces does not.
    """

    number: int
    line: int | None
    offset: int = 0
    there: bool = False


@dataclass(frozen=True)
class FileFate:
    """One file of a patch on the new upstream.

    Attributes:
        path: as the patch has it.
        outcome: of the merge.
        renamed_to: its path there, where that is another.
        hunks: each, in order.
    """

    path: str
    outcome: Outcome
    renamed_to: str
    hunks: tuple[HunkFate, ...]


@dataclass(frozen=True)
class Fate:
    """One patch on the new upstream."""

    patch: Patch
    files: tuple[FileFate, ...]

    @property
    def outcome(self) -> Outcome:
        """Absorbed if all of it is; otherwise the file that leaves the most work."""
        return max((file.outcome for file in self.files), key=_WORK.index)

    @property
    def clean(self) -> bool:
        """Whether nobody has to look."""
        return _WORK.index(self.outcome) < _WORK.index(Outcome.CONFLICT)


def assess(shop: Workshop, plan: Plan) -> tuple[Fate, ...]:
    """Carries the whole series once, to see; the work tree is the new upstream again afterwards.

    After a conflict the lines of the new upstream stay, so that what comes later is still told.
    """
    start = shop.tip
    fates = []
    for number, step in enumerate(plan.steps, start=1):
        before = shop.tip
        unmerged = shop.pick(number, ours=False)
        if unmerged:
            shop.reset(before)
            shop.pick(number, ours=True)
            shop.settle()
        after = shop.commit(step.patch.name, before)
        fates.append(Fate(step.patch, tuple(_file(shop, file, before, after, unmerged) for file in step.patch.files)))
    shop.reset(start)
    return tuple(fates)


def _file(shop: Workshop, file: FilePatch, before: str, after: str, unmerged: tuple[str, ...]) -> FileFate:
    renamed = shop.renames.get(file.path, "")
    path = renamed or file.path
    was, now = shop.read(before, path), shop.read(after, path)
    lines = exact.split(was or b"")
    hunks = tuple(hunk_fate(number, hunk, lines) for number, hunk in enumerate(file.hunks, start=1))
    return FileFate(file.path, _outcome(file, was, now, hunks, path in unmerged, renamed), renamed, hunks)


def _outcome(
    file: FilePatch, was: bytes | None, now: bytes | None, hunks: tuple[HunkFate, ...], conflict: bool, renamed: str
) -> Outcome:
    if was is None and not file.creates and not file.deletes:
        return Outcome.DELETED
    if conflict:
        return Outcome.CONFLICT
    if now == was:
        return Outcome.ABSORBED
    if renamed:
        return Outcome.RENAMED
    if file.creates or file.deletes:
        return Outcome.CLEAN
    if any(hunk.line is None or hunk.there for hunk in hunks):
        return Outcome.MERGED
    return Outcome.OFFSET if any(hunk.offset for hunk in hunks) else Outcome.CLEAN


def hunk_fate(number: int, hunk: Hunk, lines: list[bytes]) -> HunkFate:
    """Where a hunk's lines stand in a file: the nearest place to the one that it names."""
    for there, wanted in ((False, hunk.old), (True, hunk.new)):
        if wanted and (places := exact.places(wanted, lines)):
            line = min(places, key=lambda place: abs(place - hunk.old_start))
            return HunkFate(number, line, line - hunk.old_start, there)
    return HunkFate(number, None)
