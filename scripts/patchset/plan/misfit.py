# SPDX-License-Identifier: Apache-2.0
"""Where a patch does not fit its files, and where it would: for the message alone, git decides. Upstream is pinned, so
a hunk that fits elsewhere is a stale patch, not luck."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unidiff.patch import Hunk as ParsedHunk
from unidiff.patch import PatchedFile

from patchset.node.errors import PatchDoesNotApply, plural
from patchset.sets.patchfile import Patch

_SHOWN = 12
_OTHER_RELEASE = "the patch was made for another release"


@dataclass(frozen=True)
class Hunk:
    line: int  # of the diff, from 1
    start: int  # where it begins in the file before, from 1; 0 in a file that is not there
    old: tuple[bytes, ...]  # the lines before, each with its newline unless it ends a file that has none
    ends: bool  # no context comes last, which says that the hunk reaches the end of the file

    @property
    def begin(self) -> int:
        """How many lines the file before has in front of it."""
        return self.start - bool(self.old)

    @property
    def end(self) -> int:
        return self.begin + len(self.old)


def find(patch: Patch, read: Callable[[str], bytes | None]) -> PatchDoesNotApply | None:
    """The first place where a patch, which renames no file, does not fit at its very lines, or None. The error has the
    file, the hunk, the lines expected and found, and where they would fit. `read` gives a file's content before the
    patch, None where it is not there."""
    for file in patch.lines:
        before = read(file.path)
        said = "".join(file.patch_info or ())  # unidiff takes an empty file that is filled for a new one
        creates, deletes = (f"\n{word} file mode " in said for word in ("new", "deleted"))
        if creates != (before is None):
            state = "is there already" if creates else "is not there"
            text = f"{patch.name}: {file.path} {state}"
            return PatchDoesNotApply(text, patch=patch.name, path=file.path, hint=_OTHER_RELEASE)
        lines = io.BytesIO(before or b"").readlines()  # only \n ends one
        hunks = [_hunk(hunk) for hunk in file]
        for number, hunk in enumerate(hunks, start=1):
            # A hunk without context at its end says that no line follows it; git refuses it elsewhere, too.
            if tuple(lines[hunk.begin : hunk.end]) != hunk.old or (hunk.ends and hunk.end != len(lines)):
                return _mismatch(patch, file, hunk, (number, len(hunks)), lines)
        if deletes and (more := len(lines) - (hunks[-1].end if hunks else 0)):
            text = f"{patch.name}: {file.path} is deleted by the patch, but has {more} lines more than the patch knows"
            return PatchDoesNotApply(text, patch=patch.name, path=file.path, hint=_OTHER_RELEASE)
    return None


def _hunk(hunk: ParsedHunk) -> Hunk:
    lines = list(hunk)
    ends = [at for at, line in enumerate(lines) if line.line_type == "\\"]  # the line above has no newline
    old = [
        line.value.encode().removesuffix(b"\n") if at + 1 in ends else line.value.encode()
        for at, line in enumerate(lines)
        if line.line_type not in ("+", "\\")
    ]
    last = next(line.line_type for line in reversed(lines) if line.line_type != "\\")
    return Hunk((lines[0].diff_line_no or 1) - 1, hunk.source_start, tuple(old), last != " ")


def _mismatch(
    patch: Patch, file: PatchedFile, hunk: Hunk, number: tuple[int, int], lines: list[bytes]
) -> PatchDoesNotApply:
    found = lines[hunk.begin : hunk.end]
    first = next((i for i, line in enumerate(hunk.old) if i >= len(found) or found[i] != line), 0)
    size = len(hunk.old)
    fits = [at + 1 for at in range(len(lines)) if size and tuple(lines[at : at + size]) == hunk.old]
    fits.sort(key=lambda line: abs(line - hunk.start))
    more = len(lines) - hunk.end
    if tuple(found) == hunk.old and more > 0:
        where = f"here, but the hunk ends the file, which goes on for {plural(more, 'line')}"
    elif fits:
        where = f"they stand at line {fits[0]} (offset {fits[0] - hunk.start:+d})"
        where += f" and {plural(len(fits) - 1, 'other place')}" if len(fits) > 1 else ""
    else:
        where = _nearest(hunk, lines)
    text = [
        f"{patch.name} does not apply: {file.path}, hunk {number[0]} of {number[1]}, line {hunk.start + first}",
        "  expected:",
        *_excerpt(hunk.old, first, hunk.start),
        "  found:",
        *(_excerpt(found, first, hunk.start) or ["    (the file ends before)"]),
        f"  where the lines would fit: {where}",
    ]
    place = f"{patch.name}:{patch.above + hunk.line}"
    hint = f"refresh the patch against the pinned release ({place}), or check that it is the pinned release"
    return PatchDoesNotApply("\n".join(text), patch=patch.name, path=file.path, hunk=number[0], hint=hint)


def _excerpt(lines: Sequence[bytes], first: int, start: int) -> list[str]:
    """Numbered lines around the first that differs."""
    low = max(0, first - 3)
    shown = lines[low : low + _SHOWN]
    return [
        f"    {start + low + i:>5} | {line.decode(errors='replace').rstrip(chr(10))}"
        + ("" if line.endswith(b"\n") else "  (no newline)")
        for i, line in enumerate(shown)
    ]


def _nearest(hunk: Hunk, lines: list[bytes]) -> str:
    """The place where most lines agree, and of such places the nearest, for a person to look at."""

    size = len(hunk.old)
    alike = {
        at + 1: sum(line == lines[at + i] for i, line in enumerate(hunk.old)) for at in range(len(lines) - size + 1)
    }
    best = max(alike, key=lambda line: (alike[line], -abs(line - hunk.start)), default=0)
    if not alike.get(best) or 2 * alike[best] < size:
        return "nowhere in the file"
    return f"nowhere exactly; most alike is line {best}, {alike[best]} of {size} lines"
