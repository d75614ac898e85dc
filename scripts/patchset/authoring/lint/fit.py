# SPDX-License-Identifier: Apache-2.0
"""Each patch against the pinned release: git applies it at its exact lines, and writes it back unchanged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.authoring.lint.form import Read
from patchset.node.errors import PatchDoesNotApply
from patchset.plan import commits, plan
from patchset.plan.commits import Commit
from patchset.system.git import Repository

_MARKER = re.compile(rb"(<{7}|>{7}|\|{7})( |$)|={7}$")


def check(rows: Sequence[Read], upstream: Collection[str], read: Callable[[str], bytes]) -> Iterator[Finding]:
    """Goes through the series as apply does; files of a patch that does not fit are left alone from there on.
    `upstream` has the paths of the pinned release, and `read` gives the bytes of one of them."""
    named = sorted({path for row in rows for path in row.patch.named} & {*upstream})
    lost: set[str] = set()
    with commits.scratch() as bench:
        bench.stage({path: read(path) for path in named}, frozenset(path for row in rows for path in row.patch.scripts))
        tip = bench.commit("upstream\n", commits.NOBODY, None)
        for row in rows:
            try:
                (made,) = commits.apply(bench, tip, [row.patch])
            except PatchDoesNotApply as error:
                shutil.rmtree(bench.folder / "rebase-apply", ignore_errors=True)
                if not lost & row.patch.named:
                    yield _misfit(row, error)
                lost |= row.patch.named
                continue
            yield from _meant(bench, row, tip, made)
            yield from _results(bench, row, made)
            yield from _lines(bench, row, tip)
            tip = made.id


def _misfit(row: Read, error: PatchDoesNotApply) -> Finding:
    """The first line of the error, and where the lines would fit."""
    lines = error.message.split("\n")
    first = lines[0].removeprefix(f"{row.patch.name} does not apply: ").removeprefix(f"{row.patch.name}: ")
    why = f"{first}; {lines[-1].strip()}" if len(lines) > 1 else first
    line = _line_of(row, error.path)
    if error.hunk:
        hunks = next(file for file in row.patch.lines if file.path == error.path)
        line = row.patch.above + (hunks[error.hunk - 1][0].diff_line_no or 1) - 1
    return findings.at(row.file, line, Code.DOES_NOT_FIT, why)


def _line_of(row: Read, path: str) -> int:
    """Where the diff of a file begins; the whole diff, where no file is named."""
    if not path:
        return row.patch.above + 1
    return findings.line_of(row.patch.data.decode(), f"diff --git a/{path} b/{path}")


def _meant(bench: Repository, row: Read, before: str, made: Commit) -> Iterator[Finding]:
    """Whether the patch is what git writes of the commit that it makes."""
    try:
        commits.refuse_odd(row.patch.name, made)
    except PatchDoesNotApply as error:
        yield findings.at(row.file, _line_of(row, error.path), Code.MODE, error.message.partition(": ")[2])
        return
    try:
        commits.refuse_lies(bench, before, [row.patch], [made])
    except PatchDoesNotApply as error:
        if error.hunk:
            yield _misfit(row, error)
            return
        place, _, why = error.message.partition(": ")
        yield findings.at(row.file, int(place.rpartition(":")[2]), Code.NOT_CANONICAL, why)


def _results(bench: Repository, row: Read, made: Commit) -> Iterator[Finding]:
    blobs = commits.contents(bench, [made])
    for file in made.files:
        after = blobs.get(file.after)
        if file.executable and after is not None and not after.startswith(b"#!"):
            why = f"{file.path} is executable, but no script"
            yield findings.at(row.file, _line_of(row, file.path), Code.MODE, why)
        try:
            plan.check_compiles(file.path, after, row.patch.name)
        except PatchDoesNotApply as error:
            yield findings.at(row.file, _line_of(row, file.path), Code.DOES_NOT_COMPILE, error.message)


def _lines(bench: Repository, row: Read, before: str) -> Iterator[Finding]:
    for patched in row.patch.lines:
        was = b"" if patched.is_added_file else bench.git_bytes("cat-file", "blob", f"{before}:{patched.path}")
        returns = b"\r\n" in was
        for line in (line for hunk in patched for line in hunk if line.is_added):
            number = row.patch.above + (line.diff_line_no or 0)
            text = line.value.encode().removesuffix(b"\n")
            if text.endswith(b"\r") and not returns:
                yield findings.at(row.file, number, Code.CARRIAGE_RETURN, "the added line ends with a carriage return")
            bare = text.removesuffix(b"\r")
            if bare != bare.rstrip():
                yield findings.at(row.file, number, Code.TRAILING_SPACE, "the added line ends with white space")
            if _MARKER.match(bare):
                yield findings.at(row.file, number, Code.CONFLICT_MARKER, "the added line is a conflict marker")
