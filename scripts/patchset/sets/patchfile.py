# SPDX-License-Identifier: Apache-2.0
"""A patch file of git format-patch: its header, and its diff parsed into lines. Whether git makes of it what it says is
for git to tell: `commits.refuse_lies`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet as Diff

from patchset.node.errors import PatchDoesNotApply
from patchset.node.manifest import sha256
from patchset.sets import header
from patchset.sets.header import Header

LIMIT = 8 * 1024 * 1024  # bytes of the largest patch file that is read
NAMED = re.compile(rb"^diff --git a/(.+) b/\1$", re.MULTILINE)
_SCRIPT = re.compile(rb"^diff --git a/(.+) b/\1\n(?:index \S+|(?:new|deleted) file mode) 100755$", re.MULTILINE)
Fault = Literal["size", "encoding", "form"]
_BINARY = ("GIT binary patch", "Binary files ")


class MalformedPatch(PatchDoesNotApply):
    """A patch file cannot be read as what it should be."""

    def __init__(self, name: str, line: int, why: str, fault: Fault = "form") -> None:
        hint = "make fmt writes it as git does, where git can read it"
        super().__init__(f"{name}:{line}: malformed patch: {why}", patch=name, hint=hint)
        self.line, self.fault, self.why = line, fault, why  # of the file, from 1; `why` without the patch's name


@dataclass(frozen=True)
class Patch:
    name: str  # its file name
    header: Header  # what it says of itself
    data: bytes  # the whole file
    above: int  # how many of its lines come before the diff

    @cached_property
    def sha256(self) -> str:
        return sha256(self.data)

    @cached_property
    def diff(self) -> bytes:
        """The bytes from the first `diff --git` on."""
        return self.data.split(b"\n", self.above)[self.above]

    @cached_property
    def named(self) -> frozenset[str]:
        """What could be paths of its files, without reading the diff."""
        return frozenset(path.decode() for path in NAMED.findall(self.data))

    @cached_property
    def scripts(self) -> frozenset[str]:
        """The added or changed files that the diff marks as executable."""
        return frozenset(path.decode() for path in _SCRIPT.findall(self.data))

    @cached_property
    def lines(self) -> Diff:
        """The diff as unidiff has it, file by file and line by line. Raises MalformedPatch: it is none."""
        try:
            return Diff(self.diff)
        except UnidiffParseError as error:
            raise MalformedPatch(self.name, self.above + 1, str(error)) from error

    @property
    def added(self) -> int:
        return sum(file.added for file in self.lines)

    @property
    def removed(self) -> int:
        return sum(file.removed for file in self.lines)


def read(file: Path) -> bytes:
    """The bytes of a patch file; raises MalformedPatch where they are more than LIMIT, of which no more are read."""
    with file.open("rb") as stream:
        data = stream.read(LIMIT + 1)
    if len(data) > LIMIT:
        why = f"the file has {file.stat().st_size} bytes; a patch has at most {LIMIT}"
        raise MalformedPatch(file.name, 1, why, "size")
    return data


def parse(name: str, data: bytes) -> Patch:
    """Reads a patch file; raises PatchDoesNotApply: it is malformed; names the file, the line and what is wrong."""
    lines, above = lines_of(name, data)
    parsed, problems = header.read("\n".join([*lines[:above], ""]))
    if parsed is None:
        why = f"{name}:{problems[0].line}: {problems[0].why}"
        raise PatchDoesNotApply(why, patch=name, hint="mend what the patch says of itself")
    return Patch(name, parsed, data, above)


def lines_of(name: str, data: bytes) -> tuple[list[str], int]:
    """The lines of a patch file, and how many of them come before the diff; raises MalformedPatch."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise MalformedPatch(name, line, "is not UTF-8", "encoding") from error
    lines = text.split("\n")
    if lines.pop():
        raise MalformedPatch(name, len(lines) + 1, "the file does not end with a newline")
    if not text.startswith(header.MBOX):
        raise MalformedPatch(name, 1, f"does not begin with {header.MBOX.rstrip()!r}")
    above = next((at for at, line in enumerate(lines) if line.startswith(("diff -", "---", "Index: "))), None)
    if above is None:
        raise MalformedPatch(name, len(lines), "there is no diff")
    if not lines[above].startswith("diff --git "):
        raise MalformedPatch(name, above + 1, f"expected `diff --git`, found {lines[above][:60]!r}")
    if binary := next((at for at in range(above, len(lines)) if lines[at].startswith(_BINARY)), 0):
        raise MalformedPatch(name, binary + 1, "a binary patch is not supported")
    return lines, above
