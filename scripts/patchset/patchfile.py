# SPDX-License-Identifier: Apache-2.0
"""A patch file, read strictly: a mail header, `---`, and a git diff of text files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unidiff import patch as unidiff
from unidiff.errors import UnidiffParseError

from patchset import header, textdiff
from patchset.manifest import sha256
from patchset.textdiff import Fault, MalformedPatch

if TYPE_CHECKING:
    from pathlib import Path

    from patchset.header import Header
    from patchset.textdiff import FilePatch

LIMIT = 8 * 1024 * 1024  # bytes of the largest patch file that is read


@dataclass(frozen=True)
class Patch:
    """One patch file.

    Attributes:
        name: its file name.
        header: what it says of itself.
        files: what it does.
        diff: the bytes from the first `diff --git` on, which git is given.
        sha256: of the whole file.
    """

    name: str
    header: Header
    files: tuple[FilePatch, ...]
    diff: bytes
    sha256: str

    def lines(self) -> unidiff.PatchSet:
        """The diff as unidiff has it, line by line; `parse` has made sure that it reads the same."""
        return unidiff.PatchSet(self.diff)

    @property
    def added(self) -> int:
        """Lines with a +."""
        return sum(hunk.added for file in self.files for hunk in file.hunks)

    @property
    def removed(self) -> int:
        """Lines with a -."""
        return sum(hunk.removed for file in self.files for hunk in file.hunks)


def read(file: Path) -> bytes:
    """The bytes of a patch file, of which no more than LIMIT are ever read.

    Raises:
        PatchDoesNotApply: it is larger than that.
    """
    with file.open("rb") as stream:
        data = stream.read(LIMIT + 1)
    if len(data) > LIMIT:
        why = f"the file has {file.stat().st_size} bytes; a patch has at most {LIMIT}"
        raise MalformedPatch(file.name, 1, why, Fault.SIZE)
    return data


def parse(name: str, data: bytes) -> Patch:
    """Reads a patch file.

    Args:
        name: its file name, for messages.
        data: its bytes.

    Raises:
        PatchDoesNotApply: it is malformed; names the line and what is wrong with it.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise MalformedPatch(name, line, "is not UTF-8", Fault.ENCODING) from error
    lines = text.split("\n")
    if lines.pop():
        raise MalformedPatch(name, len(lines) + 1, "the file does not end with a newline", Fault.FORM)
    if "---" not in lines:
        raise MalformedPatch(name, 1, "there is no `---` line between the header and the diff", Fault.FORM)
    rule = lines.index("---")
    parsed = header.parse("\n".join(lines[:rule]) + "\n", name)
    files = textdiff.read(name, lines, rule + 1)
    diff = "\n".join([*lines[files[0].line - 1 :], ""]).encode()
    patch = Patch(name, parsed, files, diff, sha256(data))
    _second_opinion(patch)
    return patch


def _second_opinion(patch: Patch) -> None:
    """unidiff must read the same files and the same counts."""
    try:
        parsed = patch.lines()
    except UnidiffParseError as error:
        raise MalformedPatch(patch.name, 1, f"unidiff cannot read it: {error}", Fault.FORM) from error
    theirs = [(file.path, file.added, file.removed) for file in parsed]
    ours = [(file.path, sum(h.added for h in file.hunks), sum(h.removed for h in file.hunks)) for file in patch.files]
    if theirs != ours:
        raise MalformedPatch(patch.name, 1, f"it reads differently with unidiff: {theirs} against {ours}", Fault.FORM)
