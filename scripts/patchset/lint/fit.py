# SPDX-License-Identifier: Apache-2.0
"""Each patch against the pinned release: it fits at its very lines, its index lines are true, its lines are clean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from patchset import exact, plan
from patchset.errors import PatchDoesNotApply
from patchset.git import blob_id
from patchset.lint import findings
from patchset.lint.findings import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from patchset.lint.findings import Finding
    from patchset.lint.form import Read
    from patchset.textdiff import FilePatch

_NONE = "0" * 40
_MARKER = re.compile(rb"(<{7}|>{7}|\|{7})( |$)|={7}$")


def check(rows: Sequence[Read], upstream: Collection[str], read: Callable[[str], bytes]) -> Iterator[Finding]:
    """Goes through the series as apply does; a file that a patch does not fit is left alone from there on.

    Args:
        rows: the patches that could be read, in the order of the series.
        upstream: paths of the pinned release.
        read: gives upstream's bytes of one of them.
    """
    now: dict[str, bytes | None] = {}
    lost: set[str] = set()
    for row in rows:
        for file in row.patch.files:
            if file.path in lost:
                continue
            before = now[file.path] if file.path in now else read(file.path) if file.path in upstream else None
            try:
                after = exact.apply(row.patch.name, file, before)
            except PatchDoesNotApply as error:
                lost.add(file.path)
                yield findings.at(row.file, _line(file, error.hunk), Code.DOES_NOT_FIT, _brief(error, row.patch.name))
                continue
            now[file.path] = after
            if file.executable and not (after or b"").startswith(b"#!"):
                yield findings.at(row.file, file.line, Code.MODE, f"{file.path} is executable, but no script")
            yield from _index(row, file, before, after)
            yield from _compiled(row, file, after)
            yield from _lines(row, file, before)


def _line(file: FilePatch, hunk: int) -> int:
    return file.hunks[hunk - 1].line if hunk else file.line


def _brief(error: PatchDoesNotApply, name: str) -> str:
    """The first line of what `exact` says, and where the lines would fit."""
    lines = error.message.split("\n")
    first = lines[0].removeprefix(f"{name} does not apply: ").removeprefix(f"{name}: ")
    return f"{first}; {lines[-1].strip()}" if len(lines) > 1 else first


def _index(row: Read, file: FilePatch, before: bytes | None, after: bytes | None) -> Iterator[Finding]:
    found = tuple(_NONE if data is None else blob_id(data) for data in (before, after))
    if found != (file.old_blob, file.new_blob):
        why = f"{file.path}: the index line must be {found[0]}..{found[1]}"
        yield findings.at(row.file, file.line, Code.FALSE_INDEX, why)


def _compiled(row: Read, file: FilePatch, after: bytes | None) -> Iterator[Finding]:
    try:
        plan.check_compiles(file.path, after, row.patch.name)
    except PatchDoesNotApply as error:
        yield findings.at(row.file, file.line, Code.DOES_NOT_COMPILE, error.message)


def _lines(row: Read, file: FilePatch, before: bytes | None) -> Iterator[Finding]:
    """The added lines of one file; unidiff, which the strict reading agrees with, numbers them."""
    skipped = row.data.count(b"\n") - row.patch.diff.count(b"\n")
    returns = b"\r\n" in (before or b"")
    for patched in row.patch.lines():
        if patched.path != file.path:
            continue
        for line in (line for hunk in patched for line in hunk if line.is_added):
            number = skipped + (line.diff_line_no or 0)
            text = line.value.encode().removesuffix(b"\n")
            if text.endswith(b"\r") and not returns:
                yield findings.at(row.file, number, Code.CARRIAGE_RETURN, "the added line ends with a carriage return")
            bare = text.removesuffix(b"\r")
            if bare != bare.rstrip():
                yield findings.at(row.file, number, Code.TRAILING_SPACE, "the added line ends with white space")
            if _MARKER.match(bare):
                yield findings.at(row.file, number, Code.CONFLICT_MARKER, "the added line is a conflict marker")
