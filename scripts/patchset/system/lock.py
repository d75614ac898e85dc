# SPDX-License-Identifier: Apache-2.0
"""A lock beside a target: one run at a time; another run is told which process holds the lock. Our own few lines over
flock(2): the file holds the holder's process id, which a lock library would truncate, and it goes with the state
folder, so a taker must check that the file it locked is still the one that the path names."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from patchset.node.errors import Locked
from patchset.system import disk


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Holds the lock until the process ends, however it ends; raises Locked where another process holds it. Yields
    whether the last holder was killed: one that ends by itself takes its process id out of the file. File and folder
    are whose the folder around is, so that who may change the target finds them open, too."""
    while True:
        owner = disk.above(path.parent)
        disk.make_folder(path.parent, owner)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with suppress(PermissionError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Locked(path, _holder(path)) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                break
        os.close(descriptor)
    try:
        killed = os.fstat(descriptor).st_size > 0
        with disk.naming(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield killed
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


@contextmanager
def wait(path: Path) -> Iterator[None]:
    """Waits for a lock and holds it; for things that one process makes and the others then use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def refuse_if_held(path: Path) -> None:
    """Raises Locked where another process holds the lock; makes nothing, and holds nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Locked(path, _holder(path)) from None
    finally:
        os.close(descriptor)


def _holder(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
