# SPDX-License-Identifier: Apache-2.0
"""dist/<set>/: the wheels and what an installer needs beside them, swapped in whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from patchset.node.errors import UsageError
from patchset.system import disk, lock, paths


def folder(set_name: str) -> Path:
    """dist/<set>."""
    return paths.repo_root() / "dist" / set_name


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `place` when the block ends well; else `place` stays as it was.

    Raises:
        UsageError: `place` is a link or a file.
        Locked: another run makes the same.
    """
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise UsageError(f"{place} is a link or a file, and would be replaced by a folder", hint="move it away")
    staging, old = place.with_name(f".{place.name}.staging"), place.with_name(f".{place.name}.old")
    with lock.hold(paths.build_dir(place.name) / ".wheels.lock"):
        made = not place.parent.exists()
        _recover(place, staging, old)
        try:
            staging.mkdir(parents=True)
            yield staging
            _swap(place, staging, old)
        finally:
            _recover(place, staging, old)
            if made:
                with suppress(OSError):
                    place.parent.rmdir()  # goes only where nothing was made


def write(root: Path, files: Mapping[str, bytes]) -> None:
    """Writes files below a folder, each synced to the disk."""
    for path, data in files.items():
        disk.make_folder((root / path).parent)
        disk.write(root / path, data, mode=0o644)


def _swap(place: Path, staging: Path, old: Path) -> None:
    if place.exists():
        disk.step(f"set {place.name} aside")
        place.rename(old)
    disk.step(f"rename {staging.name}")
    staging.rename(place)
    disk.sync(place.parent)


def _recover(place: Path, staging: Path, old: Path) -> None:
    """Takes back what a run that was cut off left: the earlier folder wins unless the new one is in place."""
    if old.exists() and not place.exists():
        old.rename(place)
    for leftover in (staging, old):
        shutil.rmtree(leftover, ignore_errors=True)
