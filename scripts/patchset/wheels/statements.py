# SPDX-License-Identifier: Apache-2.0
"""What a patched wheel says of itself, in its .dist-info folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from patchset.wheels.wheel import PATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patchset.wheels.build import Build

FORMAT = 1


def members(build: Build) -> Mapping[str, bytes]:
    """Content by path below the .dist-info folder; determined by the build alone.

    patchset.json lists every other file of the wheel but RECORD: it is what an installation is held to.
    """
    document = {
        "format": FORMAT,
        "set": build.plan.patch_set.name,
        "version": build.version,
        "upstream": {"file": build.upstream.file, "sha256": build.upstream.sha256},
        "tree": build.plan.tree,
        "series": build.plan.series,
        "files": dict(sorted(build.files.items())),
    }
    return {PATCHED: (json.dumps(document, indent=1) + "\n").encode()}
