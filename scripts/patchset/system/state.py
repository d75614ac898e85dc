# SPDX-License-Identifier: Apache-2.0
"""The state beside a target: the changed files, their digests before and after, and their original bytes. It is whose
the folder around it is, whoever runs.

lock            held while a run works on the target
state.json      what is installed; not there on a pristine target
journal.json    what is being changed; there only while, or after a run was cut off
objects/<sha256>  bytes that a run needs to finish, or to go back
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from patchset.node.errors import UsageError
from patchset.node.manifest import sha256, unsafe_reason
from patchset.system import disk, lock

FORMAT = 1
T = TypeVar("T", "Installed", "Journal")


@dataclass(frozen=True)
class FileState:
    """One file: sha256 before and after, None where it is not there."""

    before: str | None
    after: str | None
    executable: bool = False


@dataclass(frozen=True)
class Installed:
    set: str  # the set's name
    tree: str  # digest of the whole patched tree
    series: str  # digest of the patch files and the overlay that made it
    files: Mapping[str, FileState]  # each changed file; `before` is upstream's


@dataclass(frozen=True)
class Journal:
    command: str  # apply or revert
    files: Mapping[str, FileState]  # each file to change; `before` is what it holds now
    installed: Installed | None  # what state.json says when it is done; None for a pristine target
    was: Installed | None  # what state.json says if it is taken back

    @property
    def reversed(self) -> Journal:
        """The way back."""
        back = {path: FileState(row.after, row.before, row.executable) for path, row in self.files.items()}
        return Journal(self.command, back, self.was, self.installed)


class Store:
    """The state folder of one target; it is there only while something is applied or under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "lock"
        self._state = folder / "state.json"
        self._journal = folder / "journal.json"

    def installed(self) -> Installed | None:
        return self._read(self._state, Installed)

    def journal(self) -> Journal | None:
        """What was being done when a run was cut off, or None."""
        return self._read(self._journal, Journal)

    def write_journal(self, journal: Journal) -> None:
        """From here on the change is finished or taken back, whatever happens."""
        if (self.folder / "objects").is_dir():
            disk.sync(self.folder / "objects")
        self._write(self._journal, asdict(journal))

    def finish(self, installed: Installed | None) -> None:
        """Records the outcome and drops the journal, in this order; a pristine target keeps nothing."""
        if installed is None:
            disk.remove(self._state)
        else:
            self._write(self._state, asdict(installed))
        disk.remove(self._journal)

    def keep(self, data: bytes) -> str:
        digest = sha256(data)
        file = self.folder / "objects" / digest
        if not file.is_file() or sha256(file.read_bytes()) != digest:
            self._put(file, data, 0o600)
        return digest

    def get(self, digest: str) -> bytes | None:
        """Kept bytes, verified; None where they are not there or damaged."""
        try:
            data = (self.folder / "objects" / digest).read_bytes()
        except FileNotFoundError:
            return None
        return data if sha256(data) == digest else None

    def _tidy(self) -> None:
        """Drops what no way back needs: the whole folder where nothing is applied."""
        if not self._state.exists():
            disk.step("remove the state folder")
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        installed = self.installed()
        needed = {row.before for row in installed.files.values()} if installed else set()
        objects = [file for file in self.folder.glob("objects/*") if file.name not in needed]
        for file in sorted([*objects, *filter(lambda file: disk.is_temporary(file.name), self.folder.iterdir())]):
            disk.remove(file)

    @contextmanager
    def session(self) -> Iterator[bool]:
        """Holds the target's lock, as `lock.hold`; leaves no folder behind where nothing is applied or under way."""
        with lock.hold(self.lock) as killed:
            try:
                yield killed
            finally:
                if not self._journal.exists():
                    self._tidy()

    def _read(self, file: Path, wanted: type[T]) -> T | None:
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
                raise self._refuse(file, "another version of patchset wrote it")
            found = msgspec.convert(value, wanted)
        except FileNotFoundError:
            return None
        except ValueError as error:  # msgspec's own are such, too
            raise self._refuse(file, str(error)) from error
        for path in found.files:
            if reason := unsafe_reason(path):
                raise self._refuse(file, f"{path!r} {reason}")
        return found

    def _refuse(self, file: Path, why: str) -> UsageError:
        hint = f"restore upstream's files yourself, then remove {self.folder}"
        return UsageError(f"{file} cannot be read: {why}", hint=hint)

    def _write(self, file: Path, value: dict[str, Any]) -> None:
        self._put(file, json.dumps({"format": FORMAT, **value}, indent=1).encode(), 0o644)
        disk.sync(file.parent)

    def _put(self, file: Path, data: bytes, mode: int) -> None:
        owner = disk.above(self.folder)
        disk.make_folder(file.parent, owner)
        disk.write(file, data, mode=mode, owner=owner)
