# SPDX-License-Identifier: Apache-2.0
"""The entries of a wheel's zip archive, with their data as it lies there.

`zipfile` cannot copy an entry without packing it anew, and what it packs depends on the zlib it runs on. So entries
are read and written here: the stored bytes of an entry that stays are copied, and new data is stored uncompressed.
Read strictly, since wheels come from elsewhere: everything that the format allows and no wheel needs is refused.

Format: PKWARE's APPNOTE.TXT 6.3, sections 4.3 and 4.4.
"""

from __future__ import annotations

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePosixPath

from patchset.node.errors import UsageError
from patchset.node.manifest import MAX_BYTES, MAX_MEMBERS, sha256, unsafe_reason

MAX_RATIO = 200
"""Text packs to a fifth, kernels to a sixth; deflate can reach a thousandth, with bombs alone."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The timestamp of what this tool writes: the first that the format has. It says nothing."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_UTF8 = 0x800
_DEFLATE_LEVEL = 0x006  # a remark on how hard the packer tried
_VERSION = 20  # of the format: deflate and folders
_UNIX = 3

_HINT = "get the wheel from a source that you trust"


@dataclass(frozen=True)
class Entry:
    path: str  # with slashes; a folder's ends with one
    method: int  # zipfile.ZIP_STORED or zipfile.ZIP_DEFLATED
    date: tuple[int, int, int, int, int, int]  # year to second, local time of the machine that packed it
    attributes: int  # MS-DOS attributes in the low 16 bits, Unix mode in the high ones
    crc: int  # CRC-32 of the data
    size: int  # of the data, in bytes
    stored: bytes  # the data as it lies in the archive
    flags: int = 0
    version_made: int = _UNIX << 8 | _VERSION  # of the format, with the system in the high byte
    version_needed: int = _VERSION
    internal: int = 0  # internal attributes: whether its packer took it for text

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")

    @property
    def mode(self) -> int:
        """Unix mode with the file type."""
        return self.attributes >> 16

    @property
    def data(self) -> bytes:
        """The content, unpacked to a byte beyond what the entry declares at most; ValueError where it is not that."""
        return _unpack(self.method, self.stored, self.size, self.crc)

    @cached_property
    def sha256(self) -> str:
        return _digest(self.method, self.stored, self.size, self.crc)

    def renamed(self, path: str) -> Entry:
        return replace(self, path=path)

    def holding(self, data: bytes) -> Entry:
        """An entry with other content, stored, under the same path and mode."""
        return new(self.path, data, self.attributes)


def _unpack(method: int, stored: bytes, size: int, crc: int) -> bytes:
    data = stored
    if method == zipfile.ZIP_DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflate.decompress(stored, size + 1)
        except zlib.error as error:
            raise ValueError(f"is damaged ({error})") from error
        if len(data) <= size and (not inflate.eof or inflate.unused_data):
            raise ValueError("is damaged (its stream does not end where its data does)")
    if len(data) != size:
        raise ValueError(f"declares {size} bytes and has {'more' if len(data) > size else 'fewer'}")
    if zlib.crc32(data) != crc:
        raise ValueError("is damaged (its CRC-32 is another)")
    return data


@lru_cache(maxsize=2048)
def _digest(method: int, stored: bytes, size: int, crc: int) -> str:
    """Remembered, for the wheels of a release share most of their files, and a patched wheel those of its upstream."""
    return sha256(_unpack(method, stored, size, crc))


def new(path: str, data: bytes, attributes: int = (stat.S_IFREG | 0o644) << 16) -> Entry:
    """An entry that upstream's archive does not have."""
    flags = 0 if path.isascii() else _UTF8
    return Entry(path, zipfile.ZIP_STORED, EPOCH, attributes, zlib.crc32(data), len(data), data, flags)


def write(entries: Sequence[Entry]) -> bytes:
    """The archive of these entries, in this order; every byte is determined by them."""
    out = io.BytesIO()
    directory = io.BytesIO()
    for entry in entries:
        name = entry.path.encode()
        year, month, day, hour, minute, second = entry.date
        time, date = hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day
        common = (entry.flags, entry.method, time, date, entry.crc, len(entry.stored), entry.size, len(name), 0)
        offset = out.tell()
        out.write(_LOCAL.pack(b"PK\x03\x04", entry.version_needed, *common) + name + entry.stored)
        rest = (0, 0, entry.internal, entry.attributes, offset)
        head = _CENTRAL.pack(b"PK\x01\x02", entry.version_made, entry.version_needed, *common, *rest)
        directory.write(head + name)
    start, size, count = out.tell(), directory.tell(), len(entries)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, size, start, 0)
    return out.getvalue() + directory.getvalue() + end


def read(data: bytes, source: str) -> tuple[Entry, ...]:
    """The entries of an archive, each unpacked once and found sound; messages name it by `source`. Raises UsageError
    for no zip archive, a damaged one, or one that no honest wheel is: paths that leave the tree or collide, links,
    devices, bombs, encryption, bytes that belong to no entry."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise UsageError(f"{source} is not a readable zip archive: {error}", hint=_HINT) from error
    if len(infos) > MAX_MEMBERS:
        raise UsageError(f"{source} has {len(infos)} members; the limit is {MAX_MEMBERS}", hint=_HINT)
    _check_declared(infos, source)
    entries = tuple(_entry(data, info) for info in infos)
    if write(entries) != data:
        why = "it has members that overlap, or that its directory describes falsely, or bytes that belong to none"
        raise UsageError(f"{source} is no archive of its members alone: {why}", hint=_HINT)
    for one in entries:
        try:
            _ = one.sha256
        except ValueError as error:
            raise _refuse(source, one.path, str(error)) from error
    return entries


def _check_declared(infos: Iterable[zipfile.ZipInfo], source: str) -> None:
    """Refuses by what the directory says, before anything is unpacked."""
    seen: set[str] = set()
    folders: set[str] = set()
    total = 0
    for info in infos:
        path = info.filename.removesuffix("/")
        if info.orig_filename != info.filename:
            raise _refuse(source, info.filename, "has a NUL in its name")
        if reason := unsafe_reason(path):
            raise _refuse(source, info.filename, reason)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
            raise _refuse(source, info.filename, "is a link or a device")
        unmarked = not info.filename.isascii() and not info.flag_bits & _UTF8
        if info.flag_bits & ~(_UTF8 | _DEFLATE_LEVEL) or info.extra or info.comment or unmarked:
            raise _refuse(source, info.filename, "uses a feature of zip that no wheel needs")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refuse(source, info.filename, f"is packed with method {info.compress_type}")
        if info.is_dir() and info.file_size:
            raise _refuse(source, info.filename, "is a folder with content")
        folded = unicodedata.normalize("NFC", path).casefold()
        if folded in seen:
            raise _refuse(source, info.filename, "is there twice, or differs from another only in case")
        seen.add(folded)
        folders |= {str(parent) for parent in PurePosixPath(folded).parents}
        total += info.file_size
        if info.file_size > MAX_RATIO * max(info.compress_size, 1) or total > MAX_BYTES:
            why = f"is a zip bomb: {info.file_size} bytes from {info.compress_size} "
            raise _refuse(source, info.filename, f"{why}({MAX_BYTES} bytes in all, {MAX_RATIO} to 1)")
    for info in infos:
        if not info.is_dir() and unicodedata.normalize("NFC", info.filename).casefold() in folders:
            raise _refuse(source, info.filename, "is a file and a folder")


def _entry(data: bytes, info: zipfile.ZipInfo) -> Entry:
    """The entry that the directory describes, with the data that would be there; `read` checks that it is."""
    begin = info.header_offset + _LOCAL.size + len(info.filename.encode())
    stored = data[begin : begin + info.compress_size]
    version = info.create_system << 8 | info.create_version
    said = (info.filename, info.compress_type, info.date_time, info.external_attr, info.CRC, info.file_size)
    return Entry(*said, stored, info.flag_bits, version, info.extract_version, info.internal_attr)


def _refuse(source: str, path: str, why: str) -> UsageError:
    return UsageError(f"{source}: member {path!r} {why}", hint=_HINT)
