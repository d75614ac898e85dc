# SPDX-License-Identifier: Apache-2.0
"""The review in Markdown, for a pull request: what the page shows, as far as a pull request has room for it."""

from __future__ import annotations

import re
from itertools import chain, zip_longest

from patchset.review import code
from patchset.review.review import Review, lines_of, templates

GITHUB = 65_536  # characters of a pull request's text or of a comment

_AROUND = 100  # characters around a diff in the template, at the most
_SPECIAL = re.compile(r"[\\`*{}\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is no markup
_REFERENCE_ESCAPED = re.compile(r"\b([\w.-]+/[\w.-]+)#&#8203;(\d+)")


class Text(str):
    """Markdown that stands as it is."""

    __slots__ = ()


def render(review: Review) -> str:
    """The Markdown; the diffs that would make it too long for a pull request are left out, and it says so."""
    environment = templates(autoescape=False, finalize=escape)  # not HTML: `finalize` escapes for Markdown
    environment.filters |= {"told": told, "lines": lines_of, "fenced": fenced, "code": span}
    template = environment.get_template("review.md")
    diffs: dict[int, Text] = {}

    def made() -> str:
        return template.render(review=review, plan=review.plan, set=review.plan.patch_set, diffs=diffs)

    room = GITHUB - len(made())
    for one in review.patches:
        block = fenced("".join(f"--- a/{file.path}\n+++ b/{file.path}\n{file.source}" for file in one.files))
        if len(block) + _AROUND <= room:
            diffs[one.number] = block
            room -= len(block) + _AROUND
    return made()


def escape(value: object) -> str:
    """Text as Markdown that shows it: no markup, HTML, mention or reference of its own.

    >>> escape("<b> *x* @me #12")
    '&lt;b&gt; \\\\*x\\\\* @&#8203;me #&#8203;12'
    """
    return value if isinstance(value, Text) else _plain(_flat(str(value)))


def told(text: str) -> Text:
    """A sentence, escaped: `owner/project#number` becomes a link, and what stands between backticks is code.

    >>> told("see a/b#1, `x*y`")
    'see [a/b#1](https://github.com/a/b/pull/1), `x*y`'
    """
    flat = _flat(text)
    pieces = flat.split("`")
    if len(pieces) % 2 == 0 or not all(pieces[1::2]):  # one is left over, or they are no pairs of single ones
        pieces = [flat]
    link = r"[\1#\2](https://github.com/\1/pull/\2)"
    texts = [_REFERENCE_ESCAPED.sub(link, _plain(piece)) for piece in pieces[::2]]
    return Text("".join(chain.from_iterable(zip_longest(texts, map(span, pieces[1::2]), fillvalue=""))))


def _flat(text: str) -> str:
    """The text in one line, with what hides made visible."""
    return code.reveal(" ".join(text.split()))


def _plain(text: str) -> str:
    text = _SPECIAL.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return re.sub(r"([@#])(?=\w)", r"\1&#8203;", text)


def span(text: str) -> Text:
    """A code span, whatever the text has.

    >>> span("a`b")
    '`` a`b ``'
    """
    text = _flat(str(text)).replace("|", "\\|")
    ticks = "`" * (_longest(text) + 1)
    edge = " " if "`" in text else ""
    return Text(f"{ticks}{edge}{text}{edge}{ticks}")


def fenced(text: str) -> Text:
    """A diff in a fence that nothing in it closes.

    >>> print(fenced("+```"))
    ````diff
    +```
    ````
    """
    fence = "`" * max(3, _longest(text) + 1)
    return Text(f"{fence}diff\n{code.reveal(text).rstrip()}\n{fence}")


def _longest(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
