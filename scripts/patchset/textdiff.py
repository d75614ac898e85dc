# SPDX-License-Identifier: Apache-2.0
"""A git diff of text files, read so that each of its lines is accounted for.

git, GNU patch and unidiff all drop the lines of an undercounted hunk without a word; here they are refused. Only
additions, deletions and edits of text files are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from patchset.errors import PatchDoesNotApply
from patchset.manifest import unsafe_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDEX = re.compile(r"index ([0-9a-f]{40})\.\.([0-9a-f]{40})(?: (100644|100755))?")
_MODE = re.compile(r"(new|deleted) file mode (100644|100755)")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(?: .*)?")
_NO_NEWLINE = "\\ No newline at end of file"


class Fault(StrEnum):
    """What may be wrong with a patch file."""

    SIZE = "size"
    ENCODING = "encoding"
    FORM = "form"
    PATH = "path"
    MODE = "mode"
    RENAME = "rename"
    BINARY = "binary"
    INDEX = "index"
    COUNT = "count"


class MalformedPatch(PatchDoesNotApply):
    """A patch file cannot be read as what it should be.

    Attributes:
        line: its number in the patch file, from 1.
        fault: which kind of wrong.
        why: what is wrong, without the patch's name.
    """

    def __init__(self, name: str, line: int, why: str, fault: Fault) -> None:
        super().__init__(
            f"{name}:{line}: malformed patch: {why}", patch=name, hint="write the patch anew with git diff --full-index"
        )
        self.line = line
        self.fault = fault
        self.why = why


_UNSUPPORTED = {
    "old mode": ("a mode change", Fault.MODE),
    "new mode": ("a mode change", Fault.MODE),
    "rename": ("a rename", Fault.RENAME),
    "copy": ("a copy", Fault.RENAME),
    "similarity index": ("a rename or copy", Fault.RENAME),
    "dissimilarity index": ("a rewrite", Fault.FORM),
    "GIT binary patch": ("a binary patch", Fault.BINARY),
    "Binary files": ("a binary patch", Fault.BINARY),
}
_BINARY = tuple(prefix for prefix, (_, fault) in _UNSUPPORTED.items() if fault is Fault.BINARY)


@dataclass(frozen=True)
class Hunk:
    """One change of consecutive lines.

    Attributes:
        line: its number in the patch file, from 1.
        old_start, new_start: where it begins in the file before and after, from 1; 0 in a file that is not there.
        old, new: the lines before and after, each with its newline unless it ends a file that has none.
        added, removed: how many lines are + and -.
        ends: no context comes last, which says that the hunk reaches the end of the file.
    """

    line: int
    old_start: int
    new_start: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    added: int
    removed: int
    ends: bool

    @property
    def begin(self) -> int:
        """How many lines the file before has in front of it."""
        return self.old_start - bool(self.old)

    @property
    def end(self) -> int:
        """How many it has up to its last one."""
        return self.begin + len(self.old)


@dataclass(frozen=True)
class FilePatch:
    """What a patch does to one file.

    Attributes:
        path: in the tree, with slashes.
        creates, deletes: whether the file is new, or goes.
        executable: the mode of a new file.
        old_blob, new_blob: git's ids of the contents before and after; all zeros where there is none.
        hunks: in the order of the file; none overlaps another.
        line: number of its `diff --git` line in the patch file, from 1.
    """

    path: str
    creates: bool
    deletes: bool
    executable: bool
    old_blob: str
    new_blob: str
    hunks: tuple[Hunk, ...]
    line: int


def read(name: str, lines: list[str], start: int) -> tuple[FilePatch, ...]:
    """Reads a diff.

    Args:
        name: of the patch file, for messages.
        lines: of the patch file, without their newlines.
        start: index of the line from which on there is nothing but the diff.

    Raises:
        MalformedPatch: it is no diff, or not one of text files.
    """
    return tuple(_Reader(name, lines, start).files())


class _Reader:
    """Goes over the lines of a diff once; `at` is the index of the line that is looked at."""

    def __init__(self, name: str, lines: list[str], at: int) -> None:
        self.name, self.lines, self.at = name, lines, at

    def refuse(self, why: str, at: int | None = None, fault: Fault = Fault.FORM) -> NoReturn:
        raise MalformedPatch(self.name, (self.at if at is None else at) + 1, why, fault)

    @property
    def ended(self) -> bool:
        return self.at == len(self.lines)

    @property
    def line(self) -> str:
        """Empty at the end, too."""
        return "" if self.ended else self.lines[self.at]

    def files(self) -> Iterator[FilePatch]:
        while not (self.ended or self.line):
            self.at += 1
        seen: set[str] = set()
        while not self.ended:
            if self.line.rstrip() == "--":
                self.refuse("a signature; make patches with --no-signature")
            if not self.line.startswith("diff --git "):
                self.refuse(f"expected `diff --git`, found {self.line[:60]!r}")
            start = self.at
            file = self.file()
            if file.path in seen:
                self.refuse(f"{file.path} is patched twice in one patch", start)
            seen.add(file.path)
            yield file
        if not seen:
            self.refuse("there is no diff", len(self.lines) - 1)

    def file(self) -> FilePatch:
        start = self.at
        path = self.git_line(self.line)
        self.at += 1
        mode = _MODE.fullmatch(self.line)
        if mode:
            self.at += 1
        index = _INDEX.fullmatch(self.line)
        if not index:
            self.refuse_extended()
        self.at += 1
        creates, deletes = bool(mode and mode[1] == "new"), bool(mode and mode[1] == "deleted")
        old_blob, new_blob = index[1], index[2]
        zero = "0" * 40
        if creates != (old_blob == zero) or deletes != (new_blob == zero):
            self.refuse(
                "the index line and the file mode line disagree on whether the file is new or deleted", self.at - 1
            )
        hunks: tuple[Hunk, ...] = ()
        if self.line.startswith("--- "):
            self.names(path, creates=creates, deletes=deletes)
            hunks = self.hunks(creates=creates, deletes=deletes)
        elif self.line.startswith(_BINARY):
            self.refuse_extended()
        elif not (creates or deletes):
            self.refuse("the file has no hunk", start)
        executable = bool(mode and mode[2] == "100755")
        return FilePatch(path, creates, deletes, executable, old_blob, new_blob, hunks, start + 1)

    def git_line(self, line: str) -> str:
        """The path of a `diff --git a/P b/P` line."""
        names = line.removeprefix("diff --git ")
        if names.startswith('"'):
            self.refuse("a quoted file name", fault=Fault.PATH)
        half = (len(names) - 1) // 2
        old, new = names[:half], names[half + 1 :]
        if names[half : half + 1] != " " or not old.startswith("a/") or not new.startswith("b/"):
            self.refuse(f"expected `diff --git a/PATH b/PATH` with one path, found {line[:120]!r}", fault=Fault.PATH)
        path = old[2:]
        if path != new[2:]:
            self.refuse(f"{path!r} and {new[2:]!r} differ: a rename is not supported", fault=Fault.RENAME)
        if reason := unsafe_reason(path):
            self.refuse(f"the path {path!r} {reason}", fault=Fault.PATH)
        return path

    def refuse_extended(self) -> NoReturn:
        for prefix, (what, fault) in _UNSUPPORTED.items():
            if self.line.startswith(prefix):
                self.refuse(f"{what} is not supported: {self.line[:80]!r}", fault=fault)
        if self.line.startswith("index "):
            why = "the index line needs both full object ids (git diff --full-index), and no odd mode"
            self.refuse(why, fault=Fault.INDEX)
        self.refuse(f"expected an index line, found {self.line[:80]!r}")

    def names(self, path: str, *, creates: bool, deletes: bool) -> None:
        """The --- and +++ lines, which must say what the `diff --git` line said."""
        tab = "\t" if " " in path else ""  # how git ends a name with a space
        for prefix, wanted in (
            ("--- ", "/dev/null" if creates else f"a/{path}{tab}"),
            ("+++ ", "/dev/null" if deletes else f"b/{path}{tab}"),
        ):
            if self.line != prefix + wanted:
                self.refuse(f"expected {prefix + wanted!r}, found {self.line[:120]!r}", fault=Fault.PATH)
            self.at += 1

    def miscounted(self, why: str, at: int | None = None) -> NoReturn:
        self.refuse(why, at, Fault.COUNT)

    def hunks(self, *, creates: bool, deletes: bool) -> tuple[Hunk, ...]:
        hunks: list[Hunk] = []
        delta, end = 0, 0
        while not (self.ended or self.line.startswith("diff --git ")):
            if not self.line.startswith("@@"):
                self.miscounted(f"text after a complete hunk, which git and patch would drop: {self.line[:60]!r}")
            start = self.at
            hunk = self.hunk()
            expected = hunk.old_start + delta + (not hunk.old) - (not hunk.new)
            if hunk.new_start != expected:
                self.miscounted(
                    f"the hunk says that it begins at new line {hunk.new_start}; that must be {expected}", start
                )
            if hunk.begin < end:
                self.miscounted("the hunk overlaps the one before it, or is out of order", start)
            if creates and (hunk.old_start or hunks):
                self.miscounted("a new file has one hunk, from -0,0", start)
            if deletes and (hunk.new_start or hunks):
                self.miscounted("a deleted file has one hunk, to +0,0", start)
            delta += len(hunk.new) - len(hunk.old)
            end = hunk.end
            hunks.append(hunk)
        if not hunks:
            self.refuse("the file has no hunk", self.at - 1)
        return tuple(hunks)

    def hunk(self) -> Hunk:
        start = self.at
        match = _HUNK.fullmatch(self.line)
        if not match:
            self.refuse(f"not a hunk header: {self.line[:80]!r}")
        old_start, new_start = int(match[1]), int(match[3])
        old_count = 1 if match[2] is None else int(match[2])
        new_count = 1 if match[4] is None else int(match[4])
        self.at += 1
        old: list[bytes] = []
        new: list[bytes] = []
        tags: list[str] = []
        while len(old) < old_count or len(new) < new_count:
            here, line, tag = self.at, self.line, self.line[:1]
            if tag not in (" ", "+", "-"):
                found = "the end" if self.ended else repr(line[:60]) if line else "an empty line"
                self.miscounted(
                    f"hunk -{old_start} +{new_start} counts {old_count}/{new_count} lines, but ends early at {found}"
                )
            self.at += 1
            newline = b"\n"
            if self.line == _NO_NEWLINE:
                self.at += 1
                newline = b""
            content = line[1:].encode() + newline
            for side, other in ((old, "+"), (new, "-")):
                if tag != other:
                    if side and not side[-1].endswith(b"\n"):
                        self.miscounted("a line after one that has no newline at the end of the file", here)
                    side.append(content)
            tags.append(tag)
        if len(old) != old_count or len(new) != new_count:
            self.miscounted(
                f"the hunk has {len(old)}/{len(new)} lines, but its header counts {old_count}/{new_count}", start
            )
        added, removed = tags.count("+"), tags.count("-")
        if not added and not removed:
            self.miscounted("the hunk changes nothing", start)
        if (old and not old_start) or (new and not new_start):
            self.miscounted("a hunk with lines begins at line 1 or later", start)
        return Hunk(start + 1, old_start, new_start, tuple(old), tuple(new), added, removed, tags[-1] != " ")
