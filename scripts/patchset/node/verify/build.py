# SPDX-License-Identifier: Apache-2.0
"""What a wheel or an installation holds, read without trusting it: the digest of each file. And patchset.json, a
build's list of its own files, and RECORD, the installer's list."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError
from patchset.node.verify import entry

MANIFEST = "patchset.json"

FORMAT = 1  # of patchset.json

_CACHES = ("__pycache__",)
_TEXTS = ("set", "project", "package", "version", "fingerprint")


@dataclass(frozen=True)
class Row:
    """What a row of RECORD says of a file, or what the file is: sha256 in hex, or empty, and size in bytes, or None."""

    sha256: str
    size: int | None


@dataclass(frozen=True)
class Build:
    where: Path  # the wheel's file, or the folder that holds the installed package
    dist_info: str  # name of its .dist-info folder
    files: Mapping[str, Row]  # by path, as RECORD names it; what is no regular file has manifest.NO_FILE
    info: Mapping[str, bytes]  # content of each file at the top of dist_info, by its name
    installed: bool  # whether an installer has been at it, which adds files to dist_info and rows to RECORD

    @property
    def version(self) -> str:
        """As in the name of dist_info: 0.10.1rc1+dp.1."""
        return self.dist_info[: -len(".dist-info")].partition("-")[2]

    @property
    def digests(self) -> dict[str, str]:
        return {path: content.sha256 for path, content in self.files.items()}


def read_wheel(file: Path) -> Build:
    """Reads a wheel; raises UsageError where there is no such file, Findings for one that no installer should open."""
    if not file.is_file():
        raise UsageError(f"no such file: {file}", hint="give a .whl file of dist/<set>")
    try:
        entries = entry.read(file.read_bytes(), str(file))
    except UsageError as error:
        raise Findings(error.message, hint="do not install it; get the wheel again") from error
    contents = {one.path: one.data for one in entries if not one.is_folder}
    files = {path: Row(manifest.sha256(data), len(data)) for path, data in contents.items()}
    infos = sorted({path.partition("/")[0] for path in contents if ".dist-info/" in path})
    if len(infos) != 1 or not infos[0].endswith(".dist-info"):
        raise Findings(f"{file} has {len(infos)} .dist-info folders at its top, not one", hint="get the wheel again")
    top = f"{infos[0]}/"
    info = {path[len(top) :]: data for path, data in contents.items() if path.startswith(top)}
    return Build(file, infos[0], files, info, installed=False)


def read_installation(folder: Path, dist_info: str, package: str) -> Build:
    """Reads the installation of a package in site-packages, by the name of its .dist-info folder."""
    paths = [f"{top}/{path}" for top in (package, dist_info) for path in manifest.walk(folder / top, skip=_CACHES)]
    files = {}
    for path in paths:
        file = folder / path
        regular = file.is_file() and not file.is_symlink()
        files[path] = Row(manifest.sha256_file(file), file.stat().st_size) if regular else Row(manifest.NO_FILE, 0)
    info = {file.name: file.read_bytes() for file in (folder / dist_info).iterdir() if not file.is_dir()}
    return Build(folder, dist_info, files, info, installed=True)


@dataclass(frozen=True)
class Declared:
    """patchset.json."""

    set: str  # name of the patch set
    project: str  # project, package: as on an index, and as imported
    package: str
    version: str  # of the build, with its local part
    upstream: str  # sha256 of the upstream file that it was made from
    fingerprint: str  # of the package's Python files; see patchset.node.fingerprint
    files: Mapping[str, str]  # sha256 of every file of the wheel but RECORD and patchset.json itself
    sha256: str  # of patchset.json


def parse_manifest(data: bytes, source: str) -> Declared:
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
        said = f"{source} is of format {value['format']}; this program reads {FORMAT}"
        raise UsageError(said, hint="use the patchset-node.pyz that came with the wheel")
    for key in _TEXTS:
        if not isinstance(value.get(key), str):
            raise refuse(f"{key} is missing or no text")
    texts: dict[str, str] = {key: value[key] for key in _TEXTS}
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
