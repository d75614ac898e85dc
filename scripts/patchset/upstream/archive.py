# SPDX-License-Identifier: Apache-2.0
"""An sdist, unpacked without trust."""

from __future__ import annotations

import gzip
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from patchset.node.errors import UsageError
from patchset.node.manifest import MAX_BYTES, MAX_MEMBERS, unsafe_reason
from patchset.system import disk

_CHUNK = 1 << 20


def unpack(archive: Path, destination: Path) -> None:
    """Unpacks an sdist's single top folder as `destination`, which must not exist. Files get mode 0644, or 0755 where
    the archive has the owner's execute bit: never the umask's leavings. Raises UsageError: not a tar archive, or a
    member that no honest sdist has."""
    destination.mkdir(parents=True)
    try:
        with gzip.open(archive) as stream:
            bounded = cast("IO[bytes]", _Bounded(stream, archive))  # tarfile needs no more than `read`
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                for member, path in _members(tar, archive):
                    file = destination / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    source = tar.extractfile(member)
                    assert source is not None  # a regular file, as _members has checked
                    data = source.read()
                    with disk.naming(file):
                        file.write_bytes(data)
                    file.chmod(0o755 if member.mode & 0o100 else 0o644)
            while bounded.read(_CHUNK):
                pass  # to the checksum at its end
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, tarfile.TarError):
            raise
        raise UsageError(f"{archive} is not a readable sdist: {error}") from error


class _Bounded:
    """A stream that gives no more than an honest sdist has, names and padding included."""

    def __init__(self, stream: gzip.GzipFile, archive: Path) -> None:
        self._stream, self._archive, self._left = stream, archive, 2 * MAX_BYTES

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            hint = "get the sdist from a source that you trust"
            raise UsageError(f"{self._archive} unpacks to more than {2 * MAX_BYTES} bytes", hint=hint)
        return data


def _members(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """The regular files with their paths below the top folder."""
    seen: set[str] = set()
    folders: set[str] = set()
    tops: set[str] = set()
    total = 0

    def refuse(member: tarfile.TarInfo, why: str) -> UsageError:
        return UsageError(f"{archive}: member {member.name!r} {why}", hint="get the sdist from a source that you trust")

    for count, member in enumerate(tar, start=1):
        if count > MAX_MEMBERS:
            raise refuse(member, f"is one of more than {MAX_MEMBERS}")
        name = member.name.rstrip("/")
        if reason := unsafe_reason(name):
            raise refuse(member, reason)
        top, _, path = name.partition("/")
        tops.add(top)
        if len(tops) > 1:
            raise refuse(member, f"lies outside the top folder {min(tops)!r}")
        if member.isdir():
            continue
        if not member.isreg():
            raise refuse(member, "is a link or a device")
        folded = unicodedata.normalize("NFC", path).casefold()
        if not path or folded in seen:
            raise refuse(member, "is there twice, or differs from another only in case")
        above = {str(parent) for parent in PurePosixPath(folded).parents}
        if folded in folders or seen & above:
            raise refuse(member, "makes a file of a folder, or a folder of a file")
        seen.add(folded)
        folders |= above
        total += member.size
        if total > MAX_BYTES:
            raise refuse(member, f"makes more than {MAX_BYTES} bytes")
        yield member, path
