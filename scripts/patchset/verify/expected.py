# SPDX-License-Identifier: Apache-2.0
"""What a build is held to besides what it says of itself: from set.toml, or from what patchset-verify.pyz carries."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1


@dataclass(frozen=True)
class Expected:
    """What a set makes.

    Attributes:
        set: its name.
        package: import name of the package.
        upstream: the version of the release that is patched.
        files: sha256 of each Python file of the patched package that counts for the fingerprint.
        pristine: the same of the unpatched one.
        others: sha256 of each other file of a whole tree.
        made_from: for each upstream file that builds may be made from, by its sha256, the digests of what builds keep
            of it besides `files`, by the path that `kept` gives; empty where the file is not at hand.
        manifests: sha256 of the patchset.json of each wheel made, by the wheel's name; empty where that is not known.
    """

    set: str
    package: str
    upstream: str
    files: Mapping[str, str]
    pristine: Mapping[str, str]
    others: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> bytes:
        """As the .pyz carries it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":")).encode()


def parse(data: bytes) -> Expected:
    """Reads what `render` made; it comes from the same archive as this code, so nothing is checked."""
    value = json.loads(data)
    del value["format"]
    return Expected(**value)
