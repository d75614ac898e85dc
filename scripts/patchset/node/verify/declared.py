# SPDX-License-Identifier: Apache-2.0
"""patchset.json, a build's list of its own files, and RECORD, the installer's list."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError

FORMAT = 1

_TEXTS = ("set", "project", "package", "version", "fingerprint")


@dataclass(frozen=True)
class Declared:
    """patchset.json, format 1."""

    set: str  # name of the patch set
    project: str  # project, package: as on an index, and as imported
    package: str
    version: str  # of the build, with its local part
    upstream: str  # sha256 of the upstream file that it was made from
    fingerprint: str  # of the package's Python files; see patchset.node.fingerprint
    files: Mapping[str, str]  # sha256 of every file of the wheel but RECORD and patchset.json itself
    sha256: str  # of patchset.json


def parse(data: bytes, source: str) -> Declared:
    """Reads patchset.json; UsageError where another version of the tool wrote it, Findings where it is damaged."""

    def refuse(why: str) -> Findings:
        return Findings(f"{source} is damaged: {why}", hint="get the wheel again, or reinstall it")

    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise refuse(f"not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        raise refuse("it names no format")
    if value["format"] != FORMAT:
        raise UsageError(
            f"{source} is of format {value['format']}; this program reads {FORMAT}",
            hint="use the patchset-node.pyz that came with the wheel",
        )
    texts: dict[str, str] = {}
    for key in _TEXTS:
        if not isinstance(value.get(key), str):
            raise refuse(f"{key} is missing or no text")
        texts[key] = value[key]
    upstream = value.get("upstream")
    if not isinstance(upstream, dict) or not isinstance(upstream.get("sha256"), str):
        raise refuse("it does not say what it was made from")
    files = value.get("files")
    if not isinstance(files, dict) or not files:
        raise refuse("it lists no files")
    for path, sha in files.items():
        if reason := manifest.unsafe_reason(path):
            raise refuse(f"{path!r} {reason}")
        if not isinstance(sha, str) or len(sha) != 64 or sha.strip("0123456789abcdef"):
            raise refuse(f"{path!r} has no sha256")
    return Declared(files=files, sha256=manifest.sha256(data), upstream=upstream["sha256"], **texts)


@dataclass(frozen=True)
class Row:
    """What a row of RECORD says of a file, or what the file is: sha256 in hex, or empty, and size in bytes, or None."""

    sha256: str
    size: int | None


def parse_record(data: bytes) -> tuple[dict[str, Row], list[tuple[str, str]]]:
    """The rows of RECORD by path, and (path, what is wrong with its row) of each row that cannot be read."""
    rows: dict[str, Row] = {}
    wrong: list[tuple[str, str]] = []
    try:
        lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    except (ValueError, csv.Error) as error:
        return rows, [("RECORD", f"is not CSV in UTF-8 ({error})")]
    for number, fields in enumerate(lines, start=1):
        if len(fields) != 3:
            wrong.append((f"RECORD:{number}", f"has {len(fields)} fields, not 3"))
            continue
        path, digest, size = fields
        if path in rows:
            wrong.append((path, "is listed twice"))
            continue
        sha = _hex(digest)
        if sha is None or (size and not (size.isascii() and size.isdigit())):
            wrong.append((path, f"has no sha256 and size but {digest[:60]!r}, {size[:20]!r}"))
            continue
        rows[path] = Row(sha, int(size) if size else None)
    return rows, wrong


def _hex(digest: str) -> str | None:
    """A RECORD digest in hex; empty for an empty one, None for any other algorithm or form."""
    if not digest:
        return ""
    algorithm, _, value = digest.partition("=")
    try:
        data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return None
    plain = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return data.hex() if algorithm == "sha256" and len(data) == 32 and plain == value else None
