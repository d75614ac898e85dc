# SPDX-License-Identifier: Apache-2.0
"""A patch as the message of a commit: subject, body, and the header's fields as trailers.

From and Date are the commit's author and author date, so the message has neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset.header import TRAILERS, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

PATCH = "Patch"  # the trailer that keeps the patch's file name
_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*): *(.*)")


@dataclass(frozen=True)
class Message:
    """What a commit says.

    Attributes:
        subject: its first paragraph, on one line.
        body: the paragraphs between subject and trailers.
        fields: the trailers in their order, without `Patch`.
        patch: file name of the patch; empty where the commit has none yet.
    """

    subject: str
    body: str
    fields: tuple[tuple[str, str], ...] = ()
    patch: str = ""

    def render(self) -> str:
        """The text of the message."""
        rows = [*self.fields, (PATCH, self.patch)] if self.patch else list(self.fields)
        trailers = "\n".join(f"{name}: {value}" for name, value in rows)
        return "\n\n".join(part for part in (self.subject, plain(self.body), trailers) if part) + "\n"


def compose(subject: str, body: str, fields: Mapping[str, str], patch: str) -> Message:
    """The message of a patch: of its fields the trailers alone, in their order."""
    return Message(subject, body, tuple((name, fields[name]) for name in TRAILERS if fields.get(name)), patch)


def parse(text: str) -> Message:
    r"""Reads a message that `render` or a person wrote.

    The last paragraph is trailers where each of its lines looks like one and at least one is a field of a patch.

    >>> parse("Do it\n\nWhy: because.\n\nOrigin: vendor\nRemoval-Plan: when\n  upstream does\nPatch: 0001-x.patch\n")
    Message(subject='Do it', body='Why: because.', fields=(('Origin', 'vendor'), ('Removal-Plan', 'when upstream does')), patch='0001-x.patch')
    >>> parse("Do it\n\nHow: so.\n").body
    'How: so.'
    """  # noqa: E501 - a doctest's output is one line
    paragraphs = re.split(r"\n\n+", plain(text))
    subject = " ".join(paragraphs[0].split())
    rest = paragraphs[1:]
    rows = _trailers(rest[-1]) if rest else None
    if rows is None:
        return Message(subject, "\n\n".join(rest))
    names = [name for name, value in rows if name == PATCH and value]
    patch = dict(rows)[PATCH] if names else ""
    return Message(subject, "\n\n".join(rest[:-1]), tuple(row for row in rows if row[0] != PATCH), patch)


def _trailers(paragraph: str) -> list[tuple[str, str]] | None:
    rows: list[tuple[str, str]] = []
    for line in paragraph.split("\n"):
        if line.startswith((" ", "\t")) and rows:
            name, value = rows[-1]
            rows[-1] = (name, f"{value} {line.strip()}")
        elif match := _TRAILER.fullmatch(line):
            rows.append((match[1], match[2]))
        else:
            return None
    known = {*TRAILERS, PATCH}
    return rows if any(name in known for name, _ in rows) else None
