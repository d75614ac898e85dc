# SPDX-License-Identifier: Apache-2.0
"""What a patch says of itself: who, when and why, and as trailers where it stands with upstream (DEP-3's fields)."""

from __future__ import annotations

import email
import email.policy
import email.utils
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# The line that begins a patch: as of git format-patch --zero-commit, so that it never changes.
MBOX = f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n"
MAIL = ("From", "Date", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding")  # git keeps no others
TRAILERS = (
    "Resolves",
    "Bug",
    "Related-PR",
    "Origin",
    "Forwarded",
    "Upstream-Status",
    "Set-Specific",
    "Reviewed-by",
    "Last-Update",
    "Review-By",
    "Removal-Plan",
)
# Every patch has these; `export` adds the ones that a commit lacks.
DEFAULTS = {"Origin": "vendor", "Upstream-Status": "Pending", "Removal-Plan": "when upstream does the same"}
STATUSES = ("Pending", "Submitted", "Backport", "Denied", "Inactive-Upstream", "Inappropriate")
_FOREIGN = re.compile(r"[A-Z][a-z-]+-by|Cc|Link|Fixes|Closes|Change-Id")  # trailers that other projects write
_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")
_PICKED = re.compile(r"\(cherry picked from commit [0-9a-f]+\)")

Trailers = tuple[tuple[str, str], ...]
Fault = Literal["missing", "unknown", "twice", "malformed"]


@dataclass(frozen=True)
class Header:
    subject: str  # one line
    author: str  # `Name <address>`
    date: datetime  # with its time zone
    body: str  # why and how, as plain paragraphs, without the trailers
    resolves: tuple[str, ...]  # defects by their short names: D1, D3
    fields: Trailers  # every trailer, the unfolded value

    def get(self, name: str) -> str:
        return dict(self.fields).get(name, "")


@dataclass(frozen=True)
class Problem:
    line: int  # in the patch, from 1; where a field is missing, the first
    fault: Fault
    why: str  # what is wrong, without the patch's name


def read(text: str) -> tuple[Header | None, tuple[Problem, ...]]:
    """Reads the text before a patch's diff: the header, or the list of its faults."""
    message = email.message_from_string(text.removeprefix(MBOX), policy=email.policy.default)
    if message.defects:
        why = f"the mail header is malformed ({type(message.defects[0]).__name__})"
        return None, (Problem(1, "malformed", why),)
    problems: list[Problem] = []

    def problem(name: str, fault: Fault, why: str) -> None:
        problems.append(Problem(line_of(text, name), fault, why))

    mail: dict[str, str] = {}
    for name, value in message.items():
        if name not in MAIL:
            problem(name, "unknown", f"git drops the mail header {name!r}: a field is a trailer, below the text")
        elif name in mail:
            problem(name, "twice", f"the mail header {name} is there twice")
        mail[name] = " ".join(str(value).split())
    body, rows = split(str(message.get_payload()).strip("\n"))
    fields: dict[str, str] = {}
    for name, value in rows:
        if name not in TRAILERS and not _FOREIGN.fullmatch(name):
            problem(name, "unknown", f"the trailer {name!r} is not known")
        elif name in fields and name in TRAILERS:
            problem(name, "twice", f"the trailer {name} is there twice")
        fields[name] = value
    for kind, values, names in (("mail header", mail, MAIL[:3]), ("trailer", fields, tuple(DEFAULTS))):
        for name in (name for name in names if not values.get(name)):
            problem(name, "missing", f"the {kind} {name} is missing")
    if (status := fields.get("Upstream-Status", "")) and status.split()[0] not in STATUSES:
        problem("Upstream-Status", "malformed", f"Upstream-Status must begin with one of {', '.join(STATUSES)}")
    name, address = email.utils.parseaddr(mail.get("From", ""))
    if mail.get("From") and (not name or "@" not in address):
        problem("From", "malformed", "From must be `Name <address>`")
    date = None
    with suppress(ValueError):
        date = email.utils.parsedate_to_datetime(mail.get("Date", ""))
    if mail.get("Date") and (date is None or date.tzinfo is None):
        why = "is not a mail date" if date is None else "has no time zone"
        problem("Date", "malformed", f"Date {mail['Date']!r} {why}")
    if not body:
        problem("", "missing", "there is no text that says why and how")
    if problems or date is None:
        return None, tuple(problems)
    resolves = tuple(word for word in re.split(r"[,\s]+", fields.get("Resolves", "")) if word)
    return Header(mail["Subject"], mail["From"], date, body, resolves, tuple(fields.items())), ()


def split(text: str) -> tuple[str, Trailers]:
    r"""The body and the trailers of a message without its subject.

    The last paragraph is trailers where each of its lines looks like one and at least one is known: `How: so.` is text.

    >>> split("Why: because.\n\nOrigin: vendor\nRemoval-Plan: when\n  upstream does")
    ('Why: because.', (('Origin', 'vendor'), ('Removal-Plan', 'when upstream does')))
    >>> split("Why: because.\n\nHow: so.")
    ('Why: because.\n\nHow: so.', ())
    """
    body, _, last = text.rpartition("\n\n")
    rows: list[tuple[str, str]] = []
    for line in last.split("\n"):
        if line.startswith((" ", "\t")) and rows:
            name, value = rows[-1]
            rows[-1] = (name, f"{value} {line.strip()}")
        elif match := _TRAILER.fullmatch(line):
            rows.append((match[1], match[2].strip()))
        elif not _PICKED.fullmatch(line):
            return text, ()
    if not any(name in TRAILERS or _FOREIGN.fullmatch(name) for name, _ in rows):
        return text, ()
    return body.strip("\n"), tuple(rows)


def line_of(text: str, field: str) -> int:
    """The number of the line, from 1, on which a field of a header first stands; 1 where it does not."""
    lines = text.split("\n")
    return next((number for number, line in enumerate(lines, start=1) if line.startswith(f"{field}:")), 1)
