# SPDX-License-Identifier: Apache-2.0
"""Source code as runs of text that look alike: what Pygments makes of a file, line by line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from operator import itemgetter

from markupsafe import Markup, escape
from pygments.lexer import Lexer
from pygments.lexers import find_lexer_class_for_filename
from pygments.lexers.special import TextLexer
from pygments.token import Token, _TokenType, is_token_subtype

from patchset.sets import symbols

_LOOKS = (
    (Token.Comment, "c"),
    (Token.Literal.String.Interpol, ""),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
    (Token.Name.Decorator, "o"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
    (Token.Name.Builtin, "b"),
)
_LONGEST = 2_000  # characters of a line; a text with a longer one is data, and not coloured
_NAME = "U+{:04X}"
_LARGEST = 1_000_000  # characters of a text that is coloured


@dataclass(frozen=True, slots=True)
class Run:
    text: str  # without a newline
    look: str = ""  # the class of its colour, one letter; empty for plain text
    changed: bool = False  # whether the other side of the diff has other words here


Line = tuple[Run, ...]


def excerpt(path: str, data: bytes, first: int, last: int) -> tuple[Line, ...]:
    """Coloured lines of a file, from 1, the first and the last included; `path` tells the language."""
    raw = data.decode(errors="replace").split("\n")
    starts = [symbol.first for symbol in symbols.symbols(data)] if path.endswith(".py") else []
    # No string or bracket is open where a class or function begins, so the colours can begin there too.
    start = max([start for start in starts if start <= first], default=1)
    return lines(path, "\n".join(raw[start - 1 : last]))[first - start :]


def lines(path: str, text: str) -> tuple[Line, ...]:
    """The coloured lines of a text that begins outside of any string."""
    wanted = text.split("\n")
    if len(text) > _LARGEST or any(len(line) > _LONGEST for line in wanted):
        return tuple(plain(line) for line in wanted)
    found: list[list[tuple[str, str]]] = [[]]  # by line: the look and the text of each token
    lexer: Lexer = (find_lexer_class_for_filename(path.rpartition("/")[2]) or TextLexer)(stripnl=False, ensurenl=False)
    for kind, value in lexer.get_tokens(text):
        first, *more = value.split("\n")
        found[-1].append((_look(kind), first))
        found += [[(_look(kind), piece)] for piece in more]
    found = found[: len(wanted)]
    if ["".join(piece for _, piece in line) for line in found] != wanted:
        return tuple(plain(line) for line in wanted)  # a lexer that does not give back what it was given
    return tuple(map(_joined, found))


def _joined(line: Iterable[tuple[str, str]]) -> Line:
    """A line whose neighbours that look alike are one run."""
    pieces = groupby((piece for piece in line if piece[1]), key=itemgetter(0))
    return tuple(Run("".join(text for _, text in alike), look) for look, alike in pieces)


def plain(text: str) -> Line:
    return (Run(text),) if text else ()


def mark(line: Line, spans: Iterable[tuple[int, int]]) -> Line:
    """The line, with the characters of `spans` (begin, end; in order) marked as changed.

    >>> mark((Run("a = 1"),), [(4, 5)])
    (Run(text='a = ', look='', changed=False), Run(text='1', look='', changed=True))
    """
    spans = list(spans)
    cuts = sorted({edge for span in spans for edge in span})
    marked: list[Run] = []
    at = 0
    for run in line:
        end = at + len(run.text)
        for first, last in pairwise([at, *(cut for cut in cuts if at < cut < end), end]):
            changed = any(begin <= first < until for begin, until in spans)
            marked.append(Run(run.text[first - at : last - at], run.look, changed))
        at = end
    return tuple(marked)


def html(line: Line) -> Markup:
    """The line as HTML: escaped, and with each character that hides or reorders others made visible."""
    marked = Markup('<i class="{}">{}</i>')
    looks = ((f"{run.look} x".strip() if run.changed else run.look, _visible(run.text)) for run in line)
    return Markup().join(marked.format(names, text) if names else text for names, text in looks)


def _visible(text: str) -> Markup:
    if text.isascii() and text.isprintable():
        return escape(text)
    return Markup().join(
        Markup('<b class="hid">{}</b>').format(_NAME.format(ord(one))) if hides(one) else escape(one) for one in text
    )


def hides(character: str) -> bool:
    r"""Whether a character is invisible or reorders its neighbours, so that code is misread (CVE-2021-42574).

    >>> [hides(character) for character in "a\t\u202e\u200b"]
    [False, False, True, True]
    """
    return character != "\t" and unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Co", "Cs"}


def reveal(text: str) -> str:
    r"""The text with such characters named; newlines stay.

    >>> reveal("a\u202eb\n")
    'a[U+202E]b\n'
    """
    return "".join(f"[{_NAME.format(ord(one))}]" if hides(one) and one != "\n" else one for one in text)


@lru_cache(maxsize=512)
def _look(kind: _TokenType) -> str:
    return next((look for parent, look in _LOOKS if is_token_subtype(kind, parent)), "")
