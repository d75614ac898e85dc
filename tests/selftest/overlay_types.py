# SPDX-License-Identifier: Apache-2.0
"""mypy over the overlay as a set installs it: shared modules but those it omits, and its own in place of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from patchset.sets import overlay
from patchset.sets.setfile import PatchSet
from patchset.system import disk, paths

# Python 3.10 is the oldest that mypy knows; torch and vLLM are not of the tool's environment.
_OPTIONS = ("--explicit-package-bases", "--ignore-missing-imports", "--python-version", "3.10")


def lay_out(patch_set: PatchSet) -> Path:
    """Writes the modules of a set's overlay into build/lint/<set>, and nothing else is there then."""
    folder = paths.repo_root() / "build" / "lint" / patch_set.name
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in overlay.load(patch_set).files.items():
        disk.make_folder((folder / path).parent)
        disk.write(folder / path, data, mode=0o644)
    return folder


def check(patch_set: PatchSet) -> bool:
    """Whether mypy finds nothing; it prints what it finds. Raises UsageError: the overlay cannot be read."""
    folder = lay_out(patch_set)
    environ = os.environ | {"MYPYPATH": str(folder)}
    command = [sys.executable, "-m", "mypy", *_OPTIONS, str(folder / patch_set.package)]
    done = subprocess.run(command, cwd=paths.repo_root(), env=environ, stdout=sys.stderr, check=False)
    return done.returncode == 0
