# SPDX-License-Identifier: Apache-2.0
"""RECORD of an installation: the row of each changed file made right, every other byte left as it is. Format: the PyPA
specification "Recording installed projects": CSV of path, `sha256=` and urlsafe base64 without padding, size in
bytes."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping
from pathlib import PurePosixPath

from patchset.node.errors import UsageError
from patchset.node.manifest import sha256


def row(path: str, data: bytes) -> list[str]:
    return digest_row(path, sha256(data), len(data))


def digest_row(path: str, digest: str, size: int) -> list[str]:
    """The fields of one RECORD row, from a file's hex sha256 and its size in bytes."""
    encoded = base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode()
    return [path, f"sha256={encoded}", str(size)]


def update(record: bytes, changes: Mapping[str, bytes | None], source: str) -> bytes:
    """RECORD after some files have changed, to these contents, None for no file; raises UsageError where it is none."""
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not UTF-8", hint="reinstall the package") from error
    ending = "\r\n" if "\r\n" in text else "\n"
    rows: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = next(csv.reader([line]), [])
        if len(fields) != 3:
            raise UsageError(f"{source}:{number}: not a RECORD row: {line[:80]!r}", hint="reinstall the package")
        if fields[0] in rows:
            raise UsageError(f"{source}: a file is listed twice", hint="reinstall the package")
        rows[fields[0]] = line
    new = {path: _line(row(path, data)) for path, data in changes.items() if data is not None}
    kept = [(path, new.pop(path, line)) for path, line in rows.items() if changes.get(path, b"") is not None]
    for path, line in sorted(new.items()):
        kept.insert(_place([name for name, _ in kept], path), (path, line))
    return "".join(line + ending for _, line in kept).encode()


def _line(fields: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(fields)
    return buffer.getvalue()


def _place(paths: list[str], path: str) -> int:
    """Where a new row goes: after the last one of its folder or of a folder above it."""
    for folder in PurePosixPath(path).parents:
        if inside := [number for number, name in enumerate(paths, start=1) if name.startswith(f"{folder}/")]:
            return inside[-1]
    return len(paths)
