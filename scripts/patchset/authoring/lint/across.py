# SPDX-License-Identifier: Apache-2.0
"""The same patch in several sets, told by its Subject: it adds and removes the same lines, or says why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from packaging.version import Version

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.authoring.lint.form import Read
from patchset.sets import header

EXCEPTION = "Set-Specific"


def check(sets: Mapping[str, Sequence[Read]]) -> Iterator[Finding]:
    """Findings at each patch that differs from its namesake in an earlier set, unless it has a Set-Specific field."""
    first: dict[str, tuple[str, Read]] = {}
    for name in sorted(sets, key=lambda name: Version(name.removeprefix("v"))):
        for row in sets[name]:
            if row.patch.header.get(EXCEPTION):
                continue
            subject = row.patch.header.subject
            other, reference = first.setdefault(subject, (name, row))
            if difference := _difference(reference, row):
                line = header.line_of(row.patch.data.decode(), "Subject")
                why = f"{difference} than in {other}/{reference.file.name}; if that must be, say why in {EXCEPTION}"
                yield findings.at(row.file, line, Code.SETS_DIFFER, why)


def _difference(reference: Read, row: Read) -> str:
    """How the change differs, in words; empty where it does not."""
    before, after = changed_lines(reference), changed_lines(row)
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            return f"does not change {path}, other"
        if path not in before:
            return f"changes {path}, other"
        if before[path] != after[path]:
            ours = next((line for line in after[path] if line not in before[path]), "")
            missing = next((line for line in before[path] if line not in after[path]), "")
            return f"changes other lines of {path} ({(ours or missing).strip()[:60]!r})"
    return ""


def changed_lines(row: Read) -> dict[str, tuple[str, ...]]:
    """The lines that a patch adds and removes, with + or -, by path, without context."""
    return {
        patched.path: tuple(
            f"{line.line_type}{line.value}" for hunk in patched for line in hunk if line.is_added or line.is_removed
        )
        for patched in row.patch.lines
    }
