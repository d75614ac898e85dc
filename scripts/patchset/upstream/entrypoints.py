# SPDX-License-Identifier: Apache-2.0
"""entry_points.txt of a checkout, as the sdist's build writes it: without it vLLM does not find the plugin.

A checkout has no egg-info. What is written here counts only where it has the digest of the sdist's own file.
"""

from __future__ import annotations

import ast
from pathlib import Path

from patchset.node.manifest import sha256


def text(setup_py: str) -> str:
    """The file's content, from the literal `entry_points` of setup.py; empty where there is none.

    >>> print(text("setup(entry_points={'b': ['x = p:x'], 'a': ['z = p:z', 'y = p:y']})"), end="")
    [a]
    y = p:y
    z = p:z
    <BLANKLINE>
    [b]
    x = p:x
    """
    for node in ast.walk(ast.parse(setup_py)):
        if isinstance(node, ast.keyword) and node.arg == "entry_points":
            try:
                groups = ast.literal_eval(node.value)
                return "\n".join(
                    f"[{group}]\n" + "".join(f"{row}\n" for row in sorted(groups[group])) for group in sorted(groups)
                )
            except (ValueError, TypeError):
                return ""
    return ""


def restore(tree: Path, package: str, wanted: str | None) -> None:
    """Writes <package>.egg-info/entry_points.txt where the copy of a checkout lacks it, if its sha256 is the wanted."""
    file = tree / f"{package}.egg-info" / "entry_points.txt"
    setup_py = tree / "setup.py"
    if wanted is None or file.exists() or not setup_py.is_file():
        return
    try:
        data = text(setup_py.read_text(encoding="utf-8")).encode()
    except (SyntaxError, UnicodeDecodeError):
        return
    if sha256(data) == wanted:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
