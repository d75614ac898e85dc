# SPDX-License-Identifier: Apache-2.0
"""What can go wrong: one root, whose members carry an exit code, their data and the next command. Exit codes: 0 ok; 1
findings (status not clean, smoke failed); 2 usage; 3 a patch does not apply; 4 target modified; 5 pin or hash mismatch;
6 network, cache or disk not available; 7 locked; 70 internal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

INTERNAL = 70


def plural(count: int, word: str) -> str:
    """A count and its word: 1 wheel, 2 patches."""
    return f"{count} {word}{'' if count == 1 else 'es' if word.endswith('ch') else 's'}"


def first_of(rows: Sequence[str], most: int) -> list[str]:
    """The first rows of a message, and how many more there are."""
    return [*rows[:most], *([f"and {len(rows) - most} more"] if len(rows) > most else [])]


class PatchsetError(Exception):
    """An expected failure; `hint` is the next command or step, one sentence, and may be empty."""

    exit_code: ClassVar[int] = INTERNAL  # what the process ends with

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class Findings(PatchsetError):
    """A check ran and did not pass."""

    exit_code = 1


class UsageError(PatchsetError):
    """A wrong argument, or a malformed file of the set."""

    exit_code = 2


class PatchDoesNotApply(PatchsetError):
    """A patch is malformed (`path` is empty), or does not fit its file exactly: at this hunk, from 1, or at none, 0."""

    exit_code = 3

    def __init__(self, message: str, *, patch: str, path: str = "", hunk: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.patch = patch
        self.path = path
        self.hunk = hunk


class TargetModified(PatchsetError):
    """The target holds files, by `paths` in it, that are neither upstream's nor the set's and would be lost."""

    exit_code = 4

    def __init__(self, message: str, *, paths: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.paths = tuple(paths)


class PinMismatch(PatchsetError):
    """Bytes, or a version, of a file are not the ones that the set pins."""

    exit_code = 5

    def __init__(self, what: str, *, expected: str, found: str, hint: str = "") -> None:
        super().__init__(f"{what} is not what the set pins\n  expected: {expected}\n  found:    {found}", hint=hint)
        self.what = what
        self.expected = expected
        self.found = found


class Unavailable(PatchsetError):
    """The network, the cache or the disk did not give what is needed."""

    exit_code = 6


def unavailable(error: OSError) -> Unavailable:
    """What the system said of a file, folder or disk."""
    where = f"{error.filename}: " if error.filename else ""
    return Unavailable(f"{where}{error.strerror or error}", hint="mend the file, folder or disk, then run again")


class Locked(PatchsetError):
    """Another run works on the same target; `pid` is None where the lock file does not say it."""

    exit_code = 7

    def __init__(self, lock: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        said = f"{holder} is working on this target\n  lock: {lock}"
        super().__init__(said, hint="wait for it to end, then run again")
        self.lock = lock
        self.pid = pid
