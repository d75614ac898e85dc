# SPDX-License-Identifier: Apache-2.0
"""A wheel on its way: what it is to be, made, and not yet written; and the form of what is stated of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patchset.node.verify.entry import Entry
from patchset.plan.plan import Plan
from patchset.sets.setfile import Artifact, PatchSet


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
    """A wheel that was made."""

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
