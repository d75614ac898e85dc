# SPDX-License-Identifier: Apache-2.0
"""What one node has installed, read without importing any of it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from patchset.node import fingerprint

PACKAGES = ("vllm-ascend", "vllm", "torch", "torch-npu")

_TOOLKIT_VARIABLES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")
_TOOLKIT = "/usr/local/Ascend/ascend-toolkit/latest"
_VERSION = re.compile(r"^version=\s*(\S+)", re.MULTILINE)


def survey(package: str) -> dict[str, Any]:
    """The state of the environment that this process runs in, in JSON types; None is what is not there."""
    spec = importlib.util.find_spec(package)
    root = Path(spec.origin).parents[1] if spec and spec.origin else None
    return {
        "python": platform.python_version(),
        "arch": platform.machine(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cann": cann_version(),
        "root": str(root) if root else None,  # the folder of the package that an import finds
        "files": fingerprint.measure(root, package) if root else {},  # sha256 by path
    }


def cann_version() -> str | None:
    """The version that the CANN toolkit's install.info states, as vllm-ascend's collect_env.py reads it."""
    named = [os.environ[name] for name in _TOOLKIT_VARIABLES if os.environ.get(name)]
    for toolkit in (*named, _TOOLKIT):
        info = Path(toolkit) / f"{platform.machine()}-linux" / "ascend_toolkit_install.info"
        if info.is_file() and (found := _VERSION.search(info.read_text(errors="replace"))):
            return found[1]
    return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
