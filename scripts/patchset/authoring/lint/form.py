# SPDX-License-Identifier: Apache-2.0
"""Series and folder agree both ways, and each patch file can be read, strictly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.node.errors import PatchDoesNotApply
from patchset.sets import header, patchfile, series
from patchset.sets.patchfile import MalformedPatch, Patch

_FAULTS = {"size": Code.TOO_LARGE, "encoding": Code.NOT_UTF8, "form": Code.MALFORMED}


@dataclass(frozen=True)
class Read:
    """A patch file that could be read: its place and its contents."""

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
