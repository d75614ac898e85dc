# SPDX-License-Identifier: Apache-2.0
"""The review as one HTML file: no network, no script but its own, and nothing of a patch ever run. Templates escape
whatever they are given. A Content-Security-Policy names the digests of the page's style and script, so that a browser
refuses any other, attributes included."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from itertools import chain
from typing import TypeVar

from markupsafe import Markup, escape

from patchset.node.errors import plural
from patchset.proof.defects import Defect
from patchset.review import code
from patchset.review.diff import Block, FileDiff, Kind, ShownHunk
from patchset.review.review import Module, Review, lines_of, templates
from patchset.sets import facts

_Item = TypeVar("_Item")

_SCRIPTS = ("page.js", "search.js", "viewed.js", "start.js")  # in this order, as one
_CHUNK = 60  # lines that the browser lays out at once, when they come near the window
_LINK = re.compile(r"https://[^\s<>\"'`\]]+[^\s<>\"'`\].,;)]|\b([\w.-]+/[\w.-]+)#(\d+)")


def render(review: Review) -> str:
    environment = templates(autoescape=True)
    environment.filters |= {one.__name__: one for one in (links, chunks, slices, folders, sentence, ticks)}
    environment.filters |= {
        "code": code.html,
        "visible": lambda text: code.html(code.plain(text)),
        "lines": lines_of,
        "name": lambda path: path.rpartition("/")[2],
        "folder": lambda path: path[: path.rfind("/") + 1],
        "number": lambda value: f"{value:,}",
        "digest": lambda text: hashlib.sha256(text.encode()).hexdigest()[:16],
        "counted": plural,
    }
    style, scripts = _asset("page.css"), "".join(_asset(name) for name in _SCRIPTS)
    script = f'"use strict";\n{{\n{scripts}}}\n'
    template = environment.get_template("page.html")
    return template.render(
        review=review,
        plan=review.plan,
        set=review.plan.patch_set,
        rows_of=rows_of(review),
        Kind=Kind,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
    )


def links(text: str) -> Markup:
    """The text, escaped; its https addresses and `owner/project#number` become links.

    >>> print(links("see a/b#1 <b>"))
    see <a href="https://github.com/a/b/pull/1" rel="noopener noreferrer">a/b#1</a> &lt;b&gt;
    """
    pieces = []
    at = 0
    for found in _LINK.finditer(text):
        address = f"https://github.com/{found[1]}/pull/{found[2]}" if found[1] else found[0]
        link = Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(address, found[0])
        pieces += [escape(text[at : found.start()]), link]
        at = found.end()
    return Markup().join([*pieces, escape(text[at:])])


def ticks(text: str) -> Markup:
    """The text, escaped; what stands between backticks is code.

    >>> print(ticks("run `a <b>`"))
    run <code>a &lt;b&gt;</code>
    """
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def sentence(text: str) -> str:
    """The text with a capital where it begins with a plain word.

    >>> sentence("it hangs"), sentence("seq_lens is stale")
    ('It hangs', 'seq_lens is stale')
    """
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def chunks(hunk: ShownHunk) -> Iterator[list[Block]]:
    """The hunk in pieces of some blocks each, that a browser can leave alone until they are near."""
    waiting: list[Block] = []
    for block in chain.from_iterable(_split(block) for block in hunk.blocks):
        if waiting and sum(len(one.lines) for one in waiting) + len(block.lines) > _CHUNK:
            yield waiting
            waiting = []
        waiting.append(block)
    yield waiting


def _split(block: Block) -> Iterator[Block]:
    """A block in pieces, unless removed and added lines stand side by side in it."""
    if len({line.kind for line in block.lines}) > 1:
        yield block
        return
    for lines in slices(block.lines):
        yield Block(block.changed, tuple(replace(line, row=row) for row, line in enumerate(lines, start=1)))


def slices(lines: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for begin in range(0, len(lines), _CHUNK):
        yield lines[begin : begin + _CHUNK]


def folders(files: Iterable[FileDiff | Module]) -> Iterable[tuple[str, list[FileDiff | Module]]]:
    found: dict[str, list[FileDiff | Module]] = {}
    for file in sorted(files, key=lambda file: file.path.rpartition("/")[::2]):
        found.setdefault(file.path.rpartition("/")[0], []).append(file)
    return found.items()


def rows_of(review: Review) -> dict[str, Defect]:
    """The row of the table of defects by the name that a patch uses: that of D6a for D6, where D6 has none."""
    parts = {facts.whole(row.name): row for row in reversed(review.proof.rows)}
    return parts | {row.name: row for row in review.proof.rows}


def _asset(name: str) -> str:
    return (resources.files("patchset.review") / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
