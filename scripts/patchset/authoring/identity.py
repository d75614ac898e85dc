# SPDX-License-Identifier: Apache-2.0
"""Who the author is: as git is configured, the one thing of the user's configuration that this tool asks for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from patchset.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def configured(folder: Path) -> str:
    """`Name <address>` of user.name and user.email.

    Raises:
        UsageError: git has none.
    """
    values = []
    for key in ("user.name", "user.email"):
        done = subprocess.run(["git", "config", key], cwd=folder, capture_output=True, check=False)
        values.append(done.stdout.decode(errors="replace").strip())
    name, address = values
    if not name or not address:
        raise UsageError("git does not know who you are", hint="--author 'Name <address>', or git config user.name")
    return f"{name} <{address}>"
