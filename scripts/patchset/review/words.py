# SPDX-License-Identifier: Apache-2.0
"""Pairs of removed and added lines, and the words that differ in each pair."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_ALIKE = 0.5  # share of the words that two versions of one line have in common
_MOST = 2_500  # pairs of lines that are compared in one change; beyond, lines stand in order and no word is marked
_LONGEST = 500  # characters of a line whose words are compared

Span = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """Two versions of one line."""

    # Which of the removed and which of the added lines, from 0.
    old: int
    new: int
    # The characters, begin to end, that the other version has not.
    old_spans: tuple[Span, ...]
    new_spans: tuple[Span, ...]


def pair(removed: Sequence[str], added: Sequence[str]) -> tuple[Pair, ...]:
    """The pairs whose words are most alike in all, in the order of both sides.

    >>> pair(["a(x)", "b"], ["a(y)"])
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
    """Ranges of words as ranges of characters."""
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    return tuple((starts[begin], starts[end]) for begin, end in ranges if begin < end)
