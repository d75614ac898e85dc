# SPDX-License-Identifier: Apache-2.0
"""The mail header of a patch: who, when and why, and the DEP-3 fields that say where it stands with upstream."""

from __future__ import annotations

import email
import email.policy
import email.utils
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset.errors import PatchDoesNotApply

if TYPE_CHECKING:
    from datetime import datetime

REQUIRED = ("From", "Date", "Subject", "Origin", "Upstream-Status", "Removal-Plan")
OPTIONAL = ("Related-PR", "Resolves", "Forwarded", "Bug", "Reviewed-by", "Last-Update")
STATUSES = ("Pending", "Submitted", "Backport", "Denied", "Inactive-Upstream", "Inappropriate")

_MBOX = re.compile(r"From [0-9a-f]{40} [^\n]*\n")


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


def parse(text: str, patch: str) -> Header:
    """Reads the text before the `---` line of a patch.

    Raises:
        PatchDoesNotApply: a required field is missing, or a field is malformed; names the patch and the field.
    """

    def refuse(why: str) -> PatchDoesNotApply:
        return PatchDoesNotApply(f"{patch}: {why}", patch=patch, hint="mend the header of the patch")

    text = _MBOX.sub("", text, count=1) if text.startswith("From ") else text
    message = email.message_from_string(text, policy=email.policy.default)
    if message.defects:
        raise refuse(f"the mail header is malformed ({type(message.defects[0]).__name__})")
    fields: dict[str, str] = {}
    for name, value in message.items():
        if name not in REQUIRED + OPTIONAL:
            raise refuse(f"the header field {name!r} is not known")
        if name in fields:
            raise refuse(f"the header field {name} is there twice")
        fields[name] = " ".join(str(value).split())
    for name in REQUIRED:
        if not fields.get(name):
            raise refuse(f"the header field {name} is missing")
    if fields["Upstream-Status"].split()[0] not in STATUSES:
        raise refuse(f"Upstream-Status must begin with one of {', '.join(STATUSES)}")
    name, address = email.utils.parseaddr(fields["From"])
    if not name or "@" not in address:
        raise refuse("From must be `Name <address>`")
    try:
        date = email.utils.parsedate_to_datetime(fields["Date"])
    except ValueError:
        raise refuse(f"Date {fields['Date']!r} is not a mail date") from None
    if date.tzinfo is None:
        raise refuse(f"Date {fields['Date']!r} has no time zone")
    body = str(message.get_payload()).strip()
    if not body:
        raise refuse("there is no text that says why and how")
    return Header(
        subject=re.sub(r"^\[PATCH[^]]*\]\s*", "", fields["Subject"]),
        author=fields["From"],
        date=date,
        body=body,
        resolves=tuple(word for word in re.split(r"[,\s]+", fields.get("Resolves", "")) if word),
        fields=tuple(fields.items()),
    )
