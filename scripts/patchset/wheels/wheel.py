# SPDX-License-Identifier: Apache-2.0
"""A wheel, audited: its archive, its names, its version and its RECORD; and one on its way, made and not yet written.
Format: the PyPA specifications "Binary distribution format" and "Recording installed projects"."""

from __future__ import annotations

import csv
import email
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from packaging.utils import canonicalize_name

from patchset.node.errors import PinMismatch, UsageError
from patchset.node.verify import entry
from patchset.node.verify.build import Row, parse_record
from patchset.node.verify.entry import Entry
from patchset.plan.plan import Plan
from patchset.sets.setfile import Artifact, PatchSet
from patchset.target import distinfo

_HINT = "get the wheel from a source that you trust"


@dataclass(frozen=True)
class Wheel:
    """A wheel that has passed the audit."""

    file: str  # its file name
    package: str  # package, dist_info: names of its two folders
    dist_info: str
    entries: tuple[Entry, ...]  # in the order of the archive, folders included

    @cached_property
    def files(self) -> dict[str, Entry]:
        return {one.path: one for one in self.entries if not one.is_folder}

    def field(self, name: str) -> str:
        """The first value of a field of METADATA; empty where it is not there."""
        return str(email.message_from_bytes(self.files[f"{self.dist_info}/METADATA"].data).get(name, "")).strip()


def parse(file: str, data: bytes, *, package: str, version: str) -> Wheel:
    """Audits a wheel, by its file name and its bytes. Raises UsageError where it is malformed, or holds files outside
    the package; PinMismatch where it is another version, or RECORD does not match its files."""
    entries = entry.read(data, file)
    tops = {one.path.partition("/")[0] for one in entries}
    infos = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(infos) != 1:
        found = f"{len(infos)} .dist-info folders" if infos else "no .dist-info folder"
        raise UsageError(f"{file} has {found}; a wheel has one", hint=_HINT)
    wheel = Wheel(file, package, infos[0], entries)
    for name in ("METADATA", "WHEEL", "RECORD"):
        if f"{wheel.dist_info}/{name}" not in wheel.files:
            raise UsageError(f"{file} has no {wheel.dist_info}/{name}", hint=_HINT)
    for path in wheel.files:
        if not path.startswith((f"{package}/", f"{wheel.dist_info}/")):
            raise UsageError(f"{file}: member {path!r} lies outside {package}/ and {wheel.dist_info}/", hint=_HINT)
    if canonicalize_name(wheel.field("Name")) != canonicalize_name(package):
        found = f"{wheel.field('Name')!r} in METADATA"
        raise PinMismatch(file, expected=f"a wheel of {canonicalize_name(package)}", found=found, hint=_HINT)
    names = {wheel.field("Version"), wheel.dist_info.removeprefix(f"{package}-").removesuffix(".dist-info")}
    if names != {version}:
        should = f"version {version}, in METADATA and in the .dist-info folder's name"
        raise PinMismatch(file, expected=should, found=" and ".join(sorted(names)), hint=_HINT)
    _check_record(wheel)
    return wheel


def _check_record(wheel: Wheel) -> None:
    record = f"{wheel.dist_info}/RECORD"
    where = f"{wheel.file}: {record}"
    listed, wrong = parse_record(wheel.files[record].data)
    if wrong:
        raise UsageError(f"{where}: {wrong[0][0]} {wrong[0][1]}", hint=_HINT)
    expected = {path: Row(one.sha256, one.size) for path, one in wheel.files.items() if path != record}
    expected[record] = Row("", None)
    for path in sorted(listed.keys() | expected.keys()):
        if listed.get(path) != expected.get(path):
            says, has = _shown(listed.get(path), "not in RECORD"), _shown(expected.get(path), "not in the wheel")
            hint = f"RECORD and the file disagree, so one of them was changed; {_HINT}"
            raise PinMismatch(f"{wheel.file}: {path}", expected=says, found=has, hint=hint)


def render_record(files: Iterable[Entry], record: str) -> bytes:
    """RECORD's bytes for these files; `record` is its own path, whose row has neither digest nor size."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [one.path, "", ""] if one.path == record else distinfo.digest_row(one.path, one.sha256, one.size)
        for one in files
    )
    return out.getvalue().encode()


def _shown(row: Row | None, absent: str) -> str:
    size = "no" if row is None or row.size is None else row.size
    digest = f"sha256 {row.sha256}" if row and row.sha256 else "no digest"
    return absent if row is None else f"{digest}, {size} bytes"


@dataclass(frozen=True)
class Build:
    plan: Plan  # what the set does to each file
    upstream: Artifact  # the pin of what the wheel is made from
    version: str  # upstream's version with a local label: 0.10.1rc1+dp.1
    file: str  # its file name
    files: Mapping[str, str] = field(hash=False)  # sha256 by path, but for RECORD and what `statements` adds

    @property
    def dist_info(self) -> str:
        return dist_info(self.plan.patch_set, self.version)


@dataclass(frozen=True)
class Made:
    build: Build
    members: Mapping[str, bytes] = field(hash=False)  # what `statements` added, by path below its .dist-info folder
    sha256: str
    size: int  # in bytes
    requires_python: str  # what its METADATA says


@dataclass(frozen=True)
class Draft:
    """A wheel that is not written yet. METADATA, RECORD and the statements need not be in `expected`."""

    made: Made
    data: bytes
    expected: Mapping[str, Entry | str] = field(hash=False)  # at each path: an entry, or a digest


def dist_info(patch_set: PatchSet, version: str) -> str:
    return f"{patch_set.package}-{version}.dist-info"


def canonical(value: Any) -> bytes:
    """A value as JSON in UTF-8, keys sorted, no white space: equal statements have equal digests.

    For objects with keys in ASCII, strings and integers, which is all that statements hold, that is RFC 8785.

    >>> canonical({"b": [1, "caf\u00e9"], "a": None})
    b'{"a":null,"b":[1,"caf\\xc3\\xa9"]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
