# SPDX-License-Identifier: Apache-2.0
"""The values that a build must have besides its own manifest: from set.toml, or from patchset-node.pyz."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from patchset.node import fingerprint


@dataclass(frozen=True)
class Expected:
    """What a set makes, and the versions that it is made for.

    Attributes:
        set: its name.
        package: import name of the package.
        release: the version of vllm-ascend that is patched.
        version: of vllm-ascend that nodes must have; one without a local label (`+dp.1`) admits any.
        vllm, torch: versions that nodes must have; local labels (`+cpu`) do not count.
        torch_npu, cann: versions that the release was made for; nodes must have the same, not these.
        files: sha256 of each Python file of the patched package that counts for the fingerprint, by path.
        pristine: the same of the unpatched one.
        others: sha256 of each other file of a whole tree.
        made_from: for each upstream file that builds may be made from, by its sha256, the digests of what builds keep
            of it besides `files`, by the path that `kept` gives; empty where the file is not at hand.
        manifests: sha256 of the patchset.json of each wheel made, by the wheel's name; empty where that is not known.
    """

    set: str
    package: str
    release: str
    version: str
    vllm: str
    torch: str
    torch_npu: str
    cann: str
    files: Mapping[str, str]
    pristine: Mapping[str, str]
    others: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of the build."""
        return fingerprint.of(self.files, self.package)

    def render(self) -> bytes:
        """As the kit carries it; the same bytes for the same build."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def parse(data: bytes) -> Expected:
    """Reads the output of `render`; it lies in the same archive as this code, so it is not checked again."""
    return Expected(**json.loads(data))
