# SPDX-License-Identifier: Apache-2.0
"""The mail header of a patch: who, when and why, and the DEP-3 fields that say where it stands with upstream."""

from __future__ import annotations

import email
import email.policy
import email.utils
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from patchset.errors import PatchDoesNotApply

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# Every field, in the order in which a patch has them.
FIELDS = (
    "From",
    "Date",
    "Subject",
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
REQUIRED = ("From", "Date", "Subject", "Origin", "Upstream-Status", "Removal-Plan")
OPTIONAL = tuple(name for name in FIELDS if name not in REQUIRED)
TRAILERS = tuple(name for name in FIELDS if name not in ("From", "Date", "Subject"))  # in a commit's message
STATUSES = ("Pending", "Submitted", "Backport", "Denied", "Inactive-Upstream", "Inappropriate")

# The line that begins a mail in an mbox: as of git format-patch --zero-commit, so that it never changes.
MBOX = f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n"
_MBOX = re.compile(r"From [0-9a-f]{40} [^\n]*\n")
_SPECIAL = re.compile(r'[][()<>@,;:\\".]')  # characters of a name that a mail address has in quotes only


@dataclass(frozen=True)
class Header:
    """What a patch says of itself.

    Attributes:
        subject: one line, without a [PATCH] prefix.
        author: `Name <address>`.
        date: with its time zone.
        body: why and how, as plain paragraphs.
        resolves: defects by their short names: D1, D3.
        fields: every header field by its name, the unfolded value.
    """

    subject: str
    author: str
    date: datetime
    body: str
    resolves: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The value of a field, or an empty string."""
        return dict(self.fields).get(name, "")


def render(fields: Mapping[str, str], body: str) -> str:
    """The canonical text of a header up to its `---` line; what `parse` reads as the same fields and body.

    Args:
        fields: each field's value by its name; `Date` may be of any form that `parse` takes.
        body: why and how.
    """
    values = dict(fields)
    if moment := _moment(values.get("Date", "")):
        values["Date"] = email.utils.format_datetime(moment)
    name, address = email.utils.parseaddr(values.get("From", ""))
    if name:
        values["From"] = mailbox(name, address)
    values["Subject"] = _subject(values.get("Subject", ""))
    ordered = sorted(values, key=lambda field: FIELDS.index(field) if field in FIELDS else len(FIELDS))
    lines = "".join(f"{field}: {' '.join(values[field].split())}\n" for field in ordered)
    return f"{MBOX}{lines}\n{plain(body)}\n---\n"


def mailbox(name: str, address: str) -> str:
    """`Name <address>`, the name in quotes where a mail needs them.

    >>> mailbox("Doe, Jane", "jane@example.invalid")
    '"Doe, Jane" <jane@example.invalid>'
    """
    return f'"{email.utils.quote(name)}" <{address}>' if _SPECIAL.search(name) else f"{name} <{address}>"


def plain(body: str) -> str:
    """A text as git keeps it in a commit: no trailing white space, no two empty lines in a row."""
    lines = "\n".join(line.rstrip() for line in body.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip("\n")


def _subject(text: str) -> str:
    return re.sub(r"^\[PATCH[^]]*\]\s*", "", text)


def _moment(text: str) -> datetime | None:
    """A mail date; None where it is malformed."""
    try:
        return email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None


class Fault(Enum):
    """What may be wrong with a header."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    TWICE = "twice"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class Problem:
    """One fault of a header.

    Attributes:
        line: in the patch, from 1; where a field is missing, the first.
        fault: which kind.
        why: what is wrong, without the patch's name.
    """

    line: int
    fault: Fault
    why: str


def parse(text: str, patch: str) -> Header:
    """Reads the text before the `---` line of a patch.

    Raises:
        PatchDoesNotApply: a required field is missing, or a field is malformed; names the patch and the field.
    """
    parsed, problems = read(text)
    if parsed is None:
        first = problems[0]
        raise PatchDoesNotApply(f"{patch}:{first.line}: {first.why}", patch=patch, hint="mend the header of the patch")
    return parsed


def read(text: str) -> tuple[Header | None, tuple[Problem, ...]]:
    """Reads the text before the `---` line of a patch: the header, or all that keeps it from being one."""
    skipped = _MBOX.match(text)
    mail = text[skipped.end() :] if skipped else text
    message = email.message_from_string(mail, policy=email.policy.default)
    if message.defects:
        why = f"the mail header is malformed ({type(message.defects[0]).__name__})"
        return None, (Problem(1, Fault.MALFORMED, why),)
    fields: dict[str, str] = {}
    problems: list[Problem] = []

    def problem(name: str, fault: Fault, why: str) -> None:
        problems.append(Problem(line_of(text, name), fault, why))

    for name, value in message.items():
        if name not in FIELDS:
            problem(name, Fault.UNKNOWN, f"the header field {name!r} is not known")
        elif name in fields:
            problem(name, Fault.TWICE, f"the header field {name} is there twice")
        else:
            fields[name] = " ".join(str(value).split())
    for name in REQUIRED:
        if not fields.get(name):
            problem(name, Fault.MISSING, f"the header field {name} is missing")
    if (status := fields.get("Upstream-Status", "")) and status.split()[0] not in STATUSES:
        problem("Upstream-Status", Fault.MALFORMED, f"Upstream-Status must begin with one of {', '.join(STATUSES)}")
    name, address = email.utils.parseaddr(fields.get("From", ""))
    if fields.get("From") and (not name or "@" not in address):
        problem("From", Fault.MALFORMED, "From must be `Name <address>`")
    date = _moment(fields.get("Date", ""))
    if fields.get("Date") and (date is None or date.tzinfo is None):
        why = "is not a mail date" if date is None else "has no time zone"
        problem("Date", Fault.MALFORMED, f"Date {fields['Date']!r} {why}")
    body = plain(str(message.get_payload()))
    if not body.strip():
        problem("", Fault.MISSING, "there is no text that says why and how")
    if problems or date is None:
        return None, tuple(problems)
    return Header(
        subject=_subject(fields["Subject"]),
        author=fields["From"],
        date=date,
        body=body,
        resolves=tuple(word for word in re.split(r"[,\s]+", fields.get("Resolves", "")) if word),
        fields=tuple(fields.items()),
    ), ()


def line_of(text: str, field: str) -> int:
    """The number of the line, from 1, on which a field of a header first stands; 1 where it does not."""
    lines = text.split("\n")
    return next((number for number, line in enumerate(lines, start=1) if line.startswith(f"{field}:")), 1)
