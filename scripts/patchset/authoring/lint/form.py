# SPDX-License-Identifier: Apache-2.0
"""Series and folder agree both ways, each patch file can be read, strictly, and its fields are as they should be. The
values are those of DEP-3 (Origin, Forwarded, Bug) and of Yocto's Upstream-Status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.node.errors import PatchDoesNotApply
from patchset.sets import header, patchfile, series
from patchset.sets.header import Header
from patchset.sets.patchfile import MalformedPatch, Patch

_FAULTS = {"size": Code.TOO_LARGE, "encoding": Code.NOT_UTF8, "form": Code.MALFORMED}
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


@dataclass(frozen=True)
class Read:
    file: Path
    patch: Patch


def names(folder: Path) -> tuple[list[str], list[Finding]]:
    """The patches of a set, in the order of the series, each once; and where series and folder disagree."""
    file = folder / "series"
    present = {entry.name for entry in folder.glob("*.patch")}
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return sorted(present), [findings.at(file, 1, Code.SET_UNREADABLE, f"the series cannot be read: {error}")]
    listed: list[str] = []
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for name in series.names(line):
            if name in listed:
                found.append(findings.at(file, number, Code.LISTED_TWICE, f"{name} is listed twice"))
            elif name not in present:
                found.append(findings.at(file, number, Code.NOT_IN_FOLDER, f"{name} is listed and not in the folder"))
            else:
                listed.append(name)
    for name in sorted(present - set(listed)):
        found.append(findings.at(folder / name, 1, Code.NOT_IN_SERIES, "the series does not list this patch"))
    return listed, found


def read(file: Path) -> tuple[Read | None, list[Finding]]:
    """A patch file, or the findings that say why the file is none."""
    try:
        data = patchfile.read(file)
        patch = patchfile.parse(file.name, data)
        _ = patch.lines  # whether unidiff can read it: the checks of lines go by that
        return Read(file, patch), []
    except MalformedPatch as error:
        code, line, why = _FAULTS[error.fault], error.line, error.why
        if code is not Code.TOO_LARGE and b"\r\n" in data:
            code, line = Code.CARRIAGE_RETURN, data.count(b"\n", 0, data.index(b"\r\n")) + 1
            why = f"the line ends with a carriage return, and {why}"
        return None, [findings.at(file, line, code, why)]
    except PatchDoesNotApply:  # the header, of which every problem is told
        lines, above = patchfile.lines_of(file.name, data)
        text = "\n".join([*lines[:above], ""])
        return None, [
            findings.at(file, problem.line, Code[f"FIELD_{problem.fault.upper()}"], problem.why)
            for problem in header.read(text)[1]
        ]


def same(rows: list[Read]) -> Iterator[Finding]:
    """Patches that are the same as one before."""
    seen: dict[str, Read] = {}
    for row in rows:
        first = seen.setdefault(row.patch.sha256, row)
        if first is not row:
            yield findings.at(row.file, 1, Code.SAME_PATCH, f"the same as {first.file.name}")


def fields(row: Read, today: date) -> Iterator[Finding]:
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
