# SPDX-License-Identifier: Apache-2.0
"""What every node must have installed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from patchset import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Expected:
    """One build, and the versions that it is made for.

    Attributes:
        set: name of the patch set.
        package: import name of the patched package.
        ascend: version of vllm-ascend; one without a local label (`+dp.1`) admits any.
        vllm, torch: versions that every node must have; local labels (`+cpu`) do not count.
        torch_npu, cann: versions that the release was made for; nodes must have the same, not these.
        files: sha256 of each Python file that counts for the fingerprint, by path.
        upstream: the same of the unpatched release.
    """

    set: str
    package: str
    ascend: str
    vllm: str
    torch: str
    torch_npu: str
    cann: str
    files: Mapping[str, str]
    upstream: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Of the build."""
        return fingerprint.of(self.files, self.package)

    def to_json(self) -> bytes:
        """For the kit; the same bytes for the same build."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Expected:
        """What `to_json` wrote."""
        return cls(**json.loads(data))
