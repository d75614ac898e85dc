# SPDX-License-Identifier: Apache-2.0
"""The few operations that change a disk; each is atomic or can be repeated. `before_step` is called with a name before
each change, so that a test can stop the process at every one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

before_step: Callable[[str], None] | None = None


def step(name: str) -> None:
    if before_step:
        before_step(name)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What the system refuses without naming a file, as a full disk does, is said of this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def temporary(path: Path) -> Path:
    """The temporary file beside a file, renamed into place when complete; a fixed name, so that leftovers are found."""
    return path.with_name(f".{path.name}.patchset-new")


def write(path: Path, data: bytes, *, mode: int, owner: os.stat_result | None = None) -> None:
    """Replaces or makes a file in one step: at any moment it is the old or the new one. Never writes through a link. To
    outlive a power cut, the rename also needs `sync` of the folder. The file gets user and group of `owner`, where this
    process may give files away."""
    new = temporary(path)
    step(f"write {path.name}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with naming(path), os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            if owner:
                with suppress(PermissionError):
                    os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        step(f"rename {path.name}")
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[bytes | None, bool]:
    """A file's content, None where there is no file, and whether its owner may run it."""
    if not path.is_file():
        return None, False
    return path.read_bytes(), bool(path.stat().st_mode & 0o100)


def remove(path: Path) -> None:
    step(f"remove {path.name}")
    path.unlink(missing_ok=True)


def make_folder(path: Path, owner: os.stat_result | None = None) -> None:
    """Makes a folder and its parents; folders that exist are left as they are. As part of the installation of an
    `owner`, each becomes that user's and gets the mode of the one that it lies in, whatever the umask, so that whoever
    reads there reads here."""
    if path.is_dir():
        return
    make_folder(path.parent, owner)
    step(f"make folder {path.name}")
    path.mkdir(exist_ok=True)
    if owner:
        path.chmod(path.parent.stat().st_mode & 0o7777)
        with suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid)


def above(path: Path) -> os.stat_result:
    """What `os.stat` says of the folder that a path lies in or, where that is not yet made, of the nearest above."""
    return next(folder for folder in path.parents if folder.is_dir()).stat()


def remove_empty_folders(paths: Iterable[Path]) -> None:
    for path in sorted(set(paths), reverse=True):
        with suppress(OSError):
            step(f"remove folder {path.name}")
            path.rmdir()


def sync(path: Path) -> None:
    """Makes the content of a file, or renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(path: str) -> bool:
    """Whether a path is what a run that was cut off may have left: see `temporary`."""
    return path.rpartition("/")[2].startswith(".") and path.endswith(".patchset-new")
