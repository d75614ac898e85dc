# SPDX-License-Identifier: Apache-2.0
"""A unified diff as lines to show: coloured, numbered, with the removed and added lines that belong together."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import Enum
from itertools import groupby, pairwise

from unidiff.patch import Hunk as ParsedHunk
from unidiff.patch import PatchedFile
from unidiff.patch import PatchSet as ParsedDiff

from patchset.review import code
from patchset.review.code import Line
from patchset.sets import symbols

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_ALIKE = 0.5  # share of the words that two versions of one line have in common
_MOST = 2_500  # pairs of lines that are compared in one change; beyond, lines stand in order and no word is marked
_LONGEST = 500  # characters of a line whose words are compared
_MORE = 20  # unchanged lines that a reader can unfold above and below a hunk

Span = tuple[int, int]


class Kind(Enum):
    CONTEXT = " "
    ADDED = "+"
    REMOVED = "-"


@dataclass(frozen=True, slots=True)
class DiffLine:
    kind: Kind  # whether it is there before, after, or both
    # Its number in the file before and after, from 1; 0 where it is not there.
    old: int
    new: int
    line: Line  # its coloured text
    row: int  # where it stands in its block when both sides are shown side by side, from 1
    unended: bool = False  # it ends a file that has no newline at its end


@dataclass(frozen=True)
class Block:
    """Neighbouring lines: all of them context, or all removed lines of one change followed by its added ones."""

    changed: bool
    lines: tuple[DiffLine, ...]


@dataclass(frozen=True)
class ShownHunk:
    title: str  # `@@ -old +new @@`
    symbol: str  # the class or function that it is in
    blocks: tuple[Block, ...]  # its lines
    # Unchanged lines of the file around it, which no other hunk of the file has.
    above: tuple[DiffLine, ...]
    below: tuple[DiffLine, ...]

    @property
    def changed(self) -> tuple[DiffLine, ...]:
        return tuple(line for block in self.blocks if block.changed for line in block.lines)


@dataclass(frozen=True)
class FileDiff:
    anchor: str  # of the file in the page; a line's is the anchor, `:L` or `:R`, and the number
    path: str  # in the tree
    status: str  # added, deleted or modified
    # Counts of lines.
    added: int
    removed: int
    hunks: tuple[ShownHunk, ...]  # in the order of the file
    source: str  # the lines of the diff as they are in the patch, for Markdown


@dataclass(frozen=True)
class Pair:
    # Which of the removed and which of the added lines, from 0.
    old: int
    new: int
    # The characters, begin to end, that the other version has not.
    old_spans: tuple[Span, ...]
    new_spans: tuple[Span, ...]


def read(
    text: str, anchor: str, before: Mapping[str, bytes | None], after: Mapping[str, bytes | None]
) -> tuple[FileDiff, ...]:
    """The files of a git diff that git itself vouches for, from its first `diff --git` on. `anchor` is what the files'
    anchors begin with. `before` and `after` have the contents by path, for colours."""
    return tuple(_file(file, anchor, before.get(file.path), after.get(file.path)) for file in ParsedDiff(text))


def _file(file: PatchedFile, anchor: str, before: bytes | None, after: bytes | None) -> FileDiff:
    hunks = []
    firsts = [hunk.target_start + (hunk.target_length == 0) for hunk in file]  # of no lines, git names the one before
    places = [range(first, first + hunk.target_length) for first, hunk in zip(firsts, file, strict=True)]
    count = len(io.BytesIO(after or b"").readlines())  # only \n ends one
    for hunk, place, (above, below) in zip(file, places, around(places, count), strict=True):
        old = _lines(file.path, before, hunk.source_start, hunk.source_length)
        new = _lines(file.path, after, above.start, below.stop - above.start)
        blocks = tuple(_blocks(hunk, old, new))
        first = next(line for block in blocks if block.changed for line in block.lines)
        side, number = (after, first.new) if first.new else (before, first.old)
        where = symbols.at(side, file.path, number)
        shift = hunk.source_start + (hunk.source_length == 0) - place.start
        more = _unchanged(above, shift, new), _unchanged(below, shift + hunk.source_length - hunk.target_length, new)
        title = f"@@ -{hunk.source_start},{hunk.source_length} +{hunk.target_start},{hunk.target_length} @@"
        hunks.append(ShownHunk(title, where, blocks, *more))
    status = "added" if file.is_added_file else "deleted" if file.is_removed_file else "modified"
    source = "".join(str(hunk) for hunk in file)
    return FileDiff(f"{anchor}/{file.path}", file.path, status, file.added, file.removed, tuple(hunks), source)


def around(places: Sequence[range], count: int) -> list[tuple[range, range]]:
    """The numbers of the lines that unfold above and below each hunk, of a file of `count` lines; none is there twice.

    >>> around([range(4, 11), range(30, 37)], 40)
    [(range(1, 4), range(11, 11)), (range(11, 30), range(37, 41))]
    """
    edges = [1, *(edge for place in places for edge in (place.start, place.stop)), count + 1]
    gaps = [range(first, max(first, end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]
    found = []
    for number, (before, after) in enumerate(pairwise(gaps), start=1):
        above = before if number > 1 and len(before) <= 2 * _MORE else before[-_MORE:]
        below = after[:_MORE] if number == len(places) or len(after) > 2 * _MORE else after[:0]
        found.append((above, below))
    return found


def _unchanged(numbers: range, shift: int, lines: Mapping[int, Line]) -> tuple[DiffLine, ...]:
    """Lines outside of a hunk; `shift` is how much higher their numbers were before."""
    rows = enumerate(numbers, start=1)
    return tuple(DiffLine(Kind.CONTEXT, new + shift, new, lines.get(new, ()), row) for row, new in rows)


def _lines(path: str, data: bytes | None, first: int, count: int) -> dict[int, Line]:
    """The coloured lines of one side of a hunk, by number."""
    if data is None or not count:
        return {}
    return dict(enumerate(code.excerpt(path, data, first, first + count - 1), start=first))


def _blocks(hunk: ParsedHunk, old: Mapping[int, Line], new: Mapping[int, Line]) -> Iterator[Block]:
    for context, group in groupby(_plain(hunk), key=lambda line: line.kind is Kind.CONTEXT):
        found = list(group)
        if context:
            yield Block(False, tuple(_coloured(found, new, {}, range(1, len(found) + 1))))
            continue
        removed = [line for line in found if line.kind is Kind.REMOVED]
        added = [line for line in found if line.kind is Kind.ADDED]
        pairs = pair_lines([_text(one.line) for one in removed], [_text(one.line) for one in added])
        olds, news = rows_of(len(removed), len(added), pairs)
        shown = _coloured(removed, old, {pair.old: pair.old_spans for pair in pairs}, olds)
        shown += _coloured(added, new, {pair.new: pair.new_spans for pair in pairs}, news)
        yield Block(True, tuple(shown))


def _plain(hunk: ParsedHunk) -> list[DiffLine]:
    """The lines of a hunk without colours, in no row yet."""
    found: list[DiffLine] = []
    for line in hunk:
        if line.line_type == "\\":
            found.append(replace(found.pop(), unended=True))
            continue
        text = code.plain(line.value.removesuffix("\n"))
        found.append(DiffLine(Kind(line.line_type or " "), line.source_line_no or 0, line.target_line_no or 0, text, 0))
    return found


def _coloured(
    shown: Iterable[DiffLine], lines: Mapping[int, Line], spans: Mapping[int, tuple[Span, ...]], rows: Iterable[int]
) -> list[DiffLine]:
    """Lines of one side in their rows, coloured where the file has the line that the diff shows, the spans marked."""
    found = []
    for at, (one, row) in enumerate(zip(shown, rows, strict=True)):
        line = lines.get(one.new or one.old, ())
        line = line if _text(line) == _text(one.line) else one.line
        found.append(replace(one, line=code.mark(line, spans.get(at, ())), row=row))
    return found


def _text(line: Line) -> str:
    return "".join(run.text for run in line)


def rows_of(removed: int, added: int, pairs: Iterable[Pair]) -> tuple[list[int], list[int]]:
    """Rows of the removed and of the added lines of a change, from 1: a pair shares one, and nothing changes order.

    >>> rows_of(3, 1, [Pair(2, 0, (), ())])
    ([1, 2, 3], [3])
    """
    rows: tuple[list[int], list[int]] = ([], [])
    row = 1
    old = new = 0
    for pair in (*((pair.old, pair.new) for pair in pairs), (removed, added)):
        until = row + max(pair[0] - old, pair[1] - new)
        rows[0].extend(range(row, row + pair[0] - old))
        rows[1].extend(range(row, row + pair[1] - new))
        if pair != (removed, added):
            rows[0].append(until)
            rows[1].append(until)
        old, new, row = pair[0] + 1, pair[1] + 1, until + 1
    return rows


def pair_lines(removed: Sequence[str], added: Sequence[str]) -> tuple[Pair, ...]:
    """The pairs whose words are most alike in all, in the order of both sides.

    >>> pair_lines(["a(x)", "b"], ["a(y)"])
    (Pair(old=0, new=0, old_spans=((2, 3),), new_spans=((2, 3),)),)
    """
    if len(removed) * len(added) > _MOST:
        return ()
    olds, news = [_words(text) for text in removed], [_words(text) for text in added]
    # best[i][j]: the most that the lines from i and from j on can have in common.
    best = [[0.0] * (len(news) + 1) for _ in range(len(olds) + 1)]
    alike = [[_likeness(old, new) for new in news] for old in olds]
    for i in reversed(range(len(olds))):
        for j in reversed(range(len(news))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], alike[i][j] and alike[i][j] + best[i + 1][j + 1])
    pairs = []
    i = j = 0
    while i < len(olds) and j < len(news):
        if alike[i][j] and best[i][j] == alike[i][j] + best[i + 1][j + 1]:
            pairs.append(_pair(i, j, olds[i], news[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return tuple(pairs)


def _words(text: str) -> list[str]:
    return _WORD.findall(text) if len(text) <= _LONGEST else []


def _likeness(old: list[str], new: list[str]) -> float:
    """The share of common words, blanks aside; 0 where it is too small for one line to be the other's version."""
    old, new = [[word for word in words if not word.isspace()] for words in (old, new)]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    if not old or not new or matcher.real_quick_ratio() < _ALIKE or matcher.quick_ratio() < _ALIKE:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= _ALIKE else 0.0


def _pair(i: int, j: int, old: list[str], new: list[str]) -> Pair:
    changes = [op for op in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if op[0] != "equal"]
    return Pair(i, j, _spans(old, [(op[1], op[2]) for op in changes]), _spans(new, [(op[3], op[4]) for op in changes]))


def _spans(words: list[str], ranges: Sequence[Span]) -> tuple[Span, ...]:
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    return tuple((starts[begin], starts[end]) for begin, end in ranges if begin < end)
