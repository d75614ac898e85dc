# SPDX-License-Identifier: Apache-2.0
"""A wheel as a zip file, of which every reader sees the same.

Some installers read a wheel by its directory, at the end, others from its beginning, entry after entry. So the entries
must lie one after the other, with nothing before, between or behind them, and say the same as the directory.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError

_LIMIT = 1 << 30  # bytes that a wheel may unpack to; upstream's is under 3 MB
_ENTRY = struct.Struct(
    "<4s5H3L2H"
)  # signature, version, flags, method, time, date, CRC, sizes, lengths of name and extra
_END = struct.Struct("<4s4H2LH")
# What zipfile raises: its own error, or whatever a damaged header leads to, such as a name in no UTF-8.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error)
_TYPES = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: written without a file type


def read(file: Path) -> dict[str, bytes]:
    """The content of each file of a wheel, by path; writes nothing.

    Raises:
        UsageError: there is no such file.
        Findings: it is not a whole zip file, or one that no installer should open.
    """
    if not file.is_file():
        raise UsageError(f"no such file: {file}", hint="give a .whl file of dist/<set>")
    try:
        with file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if why := _refused(members) or _hidden(stream, archive):
                raise Findings(f"{file} {why}", hint="do not install it; get the wheel again")
            return {member.filename: archive.read(member) for member in members if not member.is_dir()}
    except _DAMAGED as error:
        raise Findings(f"{file} is not a whole wheel: {error}", hint="get the wheel again") from error


def _refused(members: list[zipfile.ZipInfo]) -> str:
    """Why a wheel with these members is not read; empty where it is."""
    if sum(member.file_size for member in members) > _LIMIT:
        return f"unpacks to more than {_LIMIT >> 30} GiB"
    seen = set()
    for member in members:
        path = member.filename
        if reason := manifest.unsafe_reason(path[:-1] if member.is_dir() else path):
            return f"has the member {path!r}, which {reason}"
        if path in seen:
            return f"has the member {path!r} twice"
        if stat.S_IFMT(member.external_attr >> 16) not in _TYPES:
            return f"has the member {path!r}, which is no regular file"
        seen.add(path)
    return ""


def _hidden(stream: BinaryIO, archive: zipfile.ZipFile) -> str:
    """What a reader of the directory does not see and a reader of the entries does; empty where there is no such."""
    place = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset != place:
            return f"has bytes that belong to no member before {member.filename!r}"
        stream.seek(place)
        _, _, flags, method, _, _, *sizes, name, extra = _ENTRY.unpack(stream.read(_ENTRY.size))
        listed = [member.flag_bits, member.compress_type, member.CRC, member.compress_size, member.file_size]
        if [flags, method, *sizes] != listed:
            return f"says one thing of {member.filename!r} in its directory and another beside the data"
        place += _ENTRY.size + name + extra + member.compress_size
    stream.seek(-_END.size, 2)
    signature, *_, size, start, comment = _END.unpack(stream.read(_END.size))
    ends = start + size + _END.size == stream.tell() and not comment
    if signature != b"PK\5\6" or start != place or not ends:
        return "has bytes that belong to no member around its directory"
    return ""
