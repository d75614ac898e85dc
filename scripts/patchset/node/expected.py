# SPDX-License-Identifier: Apache-2.0
"""The values that a build must have besides its own manifest: from set.toml, or from patchset-node.pyz."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from patchset.node import fingerprint


@dataclass(frozen=True)
class Expected:
    """What a set makes, and the versions that it is made for. `made_from` has, for each upstream file that builds may
    be made from, by its sha256, the digests of what builds keep of it besides `files`, by the path that `kept` gives;
    none where the file is not at hand."""

    set: str  # its name
    package: str  # import name of the package
    release: str  # the version of vllm-ascend that is patched
    version: str  # of vllm-ascend that nodes must have; one without a local label (`+dp.1`) admits any
    vllm: str  # vllm, torch: versions that nodes must have; local labels (`+cpu`) do not count
    torch: str
    torch_npu: str  # torch_npu, cann: versions that the release was made for; nodes must have the same, not these
    cann: str
    files: Mapping[str, str]  # sha256, by path, of each Python file of the patched package that the fingerprint counts
    pristine: Mapping[str, str]  # the same of the unpatched one
    others: Mapping[str, str] = field(default_factory=dict)  # sha256 of each other file of a whole tree
    made_from: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)  # sha256 of the patchset.json of each wheel made

    @property
    def fingerprint(self) -> str:
        return fingerprint.of(self.files, self.package)

    def render(self) -> bytes:
        """As the kit carries it; the same bytes for the same build."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def parse(data: bytes) -> Expected:
    """Reads the output of `render`; it lies in the same archive as this code, so it is not checked again."""
    return Expected(**json.loads(data))
