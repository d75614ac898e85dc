# SPDX-License-Identifier: Apache-2.0
"""A machine without Chromium is told what to install; nothing is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_it_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    done = subprocess.run(
        command, env=os.environ | {"CHROMIUM": str(tmp_path / "none")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "apt-get install chromium" in done.stderr + done.stdout
    assert "skipped" not in done.stdout and "passed" not in done.stdout
