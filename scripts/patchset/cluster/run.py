# SPDX-License-Identifier: Apache-2.0
"""The kit, made and run at once by the Python of a node."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from patchset.cluster import kit
from patchset.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from patchset.cluster.node.expected import Expected


def run(python: str, words: Sequence[str], expected: Expected) -> int:
    """Runs `patchset-cluster.pyz WORDS` on our stdout and stderr; its exit code.

    Raises:
        UsageError: there is no such Python.
    """
    found = shutil.which(python)
    if found is None:
        raise UsageError(f"--python {python}: no such program", hint="name the Python that vLLM runs on")
    with tempfile.TemporaryDirectory(prefix="patchset-kit-") as folder:
        file = Path(folder) / kit.NAME
        file.write_bytes(kit.build(expected))
        return subprocess.run([found, str(file), *words], check=False).returncode
