# SPDX-License-Identifier: Apache-2.0
"""Applies a patch to bytes, at the very lines that it names or not at all (no offset, no fuzz).

Upstream is pinned, so a hunk that fits elsewhere is a stale patch, not luck.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.errors import PatchDoesNotApply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from patchset.textdiff import FilePatch, Hunk

_SHOWN = 12


def split(data: bytes) -> list[bytes]:
    r"""Lines with their newlines; only \n ends a line.

    >>> split(b"a\r\nb")
    [b'a\r\n', b'b']
    """
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def apply(patch: str, file: FilePatch, before: bytes | None) -> bytes | None:
    """The file's content after the patch, None where it deletes the file.

    Args:
        patch: name of the patch, for messages.
        file: what the patch does to this file.
        before: the content before; None where the file is not there.

    Raises:
        PatchDoesNotApply: with the file, the hunk, the lines expected and found, and where they would fit.
    """
    if file.creates != (before is None):
        state = "is there already" if file.creates else "is not there"
        raise PatchDoesNotApply(
            f"{patch}: {file.path} {state}", patch=patch, path=file.path, hint="the patch was made for another release"
        )
    old = split(before or b"")
    new: list[bytes] = []
    at = 0
    for number, hunk in enumerate(file.hunks, start=1):
        # A hunk without context at its end says that no line follows it; git refuses it elsewhere, too.
        if tuple(old[hunk.begin : hunk.end]) != hunk.old or (hunk.ends and hunk.end != len(old)):
            raise _mismatch(patch, file, number, old)
        new += old[at : hunk.begin]
        new += hunk.new
        at = hunk.end
    if file.deletes and at != len(old):
        raise PatchDoesNotApply(
            f"{patch}: {file.path} is deleted by the patch, but has {len(old) - at} lines more than the patch knows",
            patch=patch,
            path=file.path,
            hint="the patch was made for another release",
        )
    new += old[at:]
    return None if file.deletes else b"".join(new)


def places(wanted: Sequence[bytes], lines: Sequence[bytes]) -> list[int]:
    """Each line number, from 1, where the wanted lines stand."""
    size = len(wanted)
    return [at + 1 for at in range(len(lines) + 1) if tuple(lines[at : at + size]) == tuple(wanted)]


def _mismatch(patch: str, file: FilePatch, number: int, lines: list[bytes]) -> PatchDoesNotApply:
    hunk = file.hunks[number - 1]
    found = lines[hunk.begin : hunk.end]
    first = next((i for i, line in enumerate(hunk.old) if i >= len(found) or found[i] != line), 0)
    fits = sorted(places(hunk.old, lines), key=lambda line: abs(line - hunk.old_start)) if hunk.old else []
    more = len(lines) - hunk.end
    if tuple(found) == hunk.old and more > 0:
        where = f"here, but the hunk ends the file and {more} more line{'s' * (more > 1)} follow"
    elif fits:
        where = f"they stand at line {fits[0]} (offset {fits[0] - hunk.old_start:+d})"
        where += f" and {len(fits) - 1} other place{'s' * (len(fits) > 2)}" if len(fits) > 1 else ""
    else:
        where = _nearest(hunk, lines)
    text = [
        f"{patch} does not apply: {file.path}, hunk {number} of {len(file.hunks)}, line {hunk.old_start + first}",
        "  expected:",
        *_excerpt(hunk.old, first, hunk.old_start),
        "  found:",
        *(_excerpt(found, first, hunk.old_start) or ["    (the file ends before)"]),
        f"  where the lines would fit: {where}",
    ]
    hint = f"refresh the patch against the pinned release ({patch}:{hunk.line}), or check that it is the pinned release"
    return PatchDoesNotApply("\n".join(text), patch=patch, path=file.path, hunk=number, hint=hint)


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
    """The place where most lines agree, for a person to look at."""
    best, best_count = 0, 0
    for at in range(max(len(lines) - len(hunk.old) + 1, 0)):
        count = sum(line == lines[at + i] for i, line in enumerate(hunk.old))
        closer = abs(at + 1 - hunk.old_start) < abs(best - hunk.old_start)
        if count > best_count or (count == best_count and count and closer):
            best, best_count = at + 1, count
    if 2 * best_count < len(hunk.old) or not best:
        return "nowhere in the file"
    return f"nowhere exactly; most alike is line {best}, {best_count} of {len(hunk.old)} lines"
