# SPDX-License-Identifier: Apache-2.0
"""The fields of a header: well-formed, in agreement with each other, and their review not overdue.

The values are those of DEP-3 (Origin, Forwarded, Bug) and of Yocto's Upstream-Status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.authoring.lint.form import Read
from patchset.sets import header
from patchset.sets.header import Header

_URL = r"https?://[^\s,]+"
_PULL = r"[\w.-]+/[\w.-]+#\d+"
_DAY = r"\d{4}-\d{2}-\d{2}"
_MAILBOX = r"[^<>@]+ <[^<>\s]+@[^<>\s]+>"
_FORMS = {
    "Resolves": (r"D\d+[a-z]?([,\s]+D\d+[a-z]?)*", "names of defects: D1, D6a"),
    "Bug": (rf"({_URL}|{_PULL})", "a URL, or owner/repository#number"),
    "Related-PR": (rf"({_URL}|{_PULL})(, ({_URL}|{_PULL}))*", "owner/repository#number, separated by commas"),
    "Origin": (r"(upstream|backport|vendor|other)(, .+)?", "upstream, backport, vendor or other, then `, where`"),
    "Forwarded": (rf"(no|not-needed|({_URL}|{_PULL})(, ({_URL}|{_PULL}))*)", "no, not-needed, or where it was sent"),
    "Upstream-Status": (r"[\w-]+( \[.+\])?", "a status, then [why, or where]"),
    "Reviewed-by": (rf"{_MAILBOX}(, {_MAILBOX})*", "Name <address>"),
    "Last-Update": (_DAY, "a day: 2026-12-31"),
    "Review-By": (_DAY, "a day: 2026-12-31"),
}
_EXPLAINED = ("Submitted", "Backport", "Inactive-Upstream", "Inappropriate")  # [..] must say why or where
_SENT = ("Submitted", "Denied")
_NEVER_SENT = ("Backport", "Inappropriate")


def check(row: Read, today: date) -> Iterator[Finding]:
    """What is wrong with the fields of a patch that could be read; Review-By is held against `today`."""
    head = row.patch.header
    text = row.patch.data.decode()
    for code, problems in (
        (Code.FIELD_MALFORMED, _malformed(head)),
        (Code.INCONSISTENT, _inconsistent(head)),
        (Code.REVIEW_PASSED, _overdue(head, today)),
    ):
        for field, why in problems:
            yield findings.at(row.file, header.line_of(text, field), code, why)


def _malformed(head: Header) -> Iterator[tuple[str, str]]:
    for field, (form, wanted) in _FORMS.items():
        value = head.get(field)
        day = _day(value) if form is _DAY else None
        if value and (not re.fullmatch(form, value) or (form is _DAY and day is None)):
            yield field, f"{field} {value!r} must be {wanted}"
    status = head.get("Upstream-Status")
    if status in _EXPLAINED:
        yield "Upstream-Status", f"Upstream-Status {status} must say why or where in [brackets]"


def _inconsistent(head: Header) -> Iterator[tuple[str, str]]:
    status, forwarded = head.get("Upstream-Status").split()[0], head.get("Forwarded") or "no"
    sent = forwarded not in ("no", "not-needed")
    field = "Forwarded" if head.get("Forwarded") else "Upstream-Status"
    if status in _SENT and not sent:
        yield field, f"Upstream-Status {status}, but Forwarded does not say where it was sent"
    if status == "Pending" and forwarded != "no":
        yield field, f"Upstream-Status Pending, but Forwarded {forwarded}: Submitted, or Inappropriate"
    if status in _NEVER_SENT and sent:
        yield field, f"Upstream-Status {status}, but Forwarded {forwarded}: not-needed, or another status"
    last = _day(head.get("Last-Update"))
    if last and last < head.date.date():
        yield "Last-Update", f"Last-Update {last} is before Date"
    review = _day(head.get("Review-By"))
    if review and review < (last or head.date.date()):
        yield "Review-By", f"Review-By {review} is before the patch was last changed"


def _overdue(head: Header, today: date) -> Iterator[tuple[str, str]]:
    review = _day(head.get("Review-By"))
    if review and review < today:
        yield "Review-By", f"Review-By {review} has passed: drop the patch, or set a new day"


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(_DAY, text) else None
    except ValueError:
        return None
