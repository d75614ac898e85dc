# SPDX-License-Identifier: Apache-2.0
"""Where a Python finds its packages, and the one installation that is meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from patchset.node.errors import Findings, UsageError
from patchset.node.verify import build
from patchset.node.verify.build import Build

_ASK = "import json, sys; print(json.dumps([path for path in sys.path if path]))"
_TIMEOUT_S = 60


def search_path(python: str | None) -> list[Path]:
    """The folders in which `python`, or the running interpreter, looks for packages; UsageError where it is none."""
    if python is None:
        return [Path(entry) for entry in sys.path if entry]
    try:
        run = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
        return [Path(entry) for entry in json.loads(run.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UsageError(f"{python} is no Python that runs: {error}", hint="give the node's interpreter") from error


def the_installation(folders: list[Path], package: str) -> Build:
    """The one installation of the package in these folders.

    Raises Findings where there is none, or more than one; or other code of that name comes first, or it is editable.
    """
    installed, bare = _find(folders, package)
    shown = ", ".join(map(str, folders)) or "nowhere"
    if not installed:
        where = f"; its code lies in {bare[0]}, uninstalled" if bare else ""
        hint = f"verify the code itself: --tree {bare[0]}" if bare else "name the folder: --path DIR, or --python EXE"
        raise Findings(f"{package} is not installed{where}\n  searched: {shown}", hint=hint)
    if len(installed) > 1:
        rows = "\n  ".join(f"{folder / info}" for folder, info in installed)
        raise Findings(f"{package} is installed {len(installed)} times\n  {rows}", hint="remove the leftovers with pip")
    folder, info = installed[0]
    if bare:
        hint = f"take {bare[0]} off PYTHONPATH, or verify the code itself: --tree {bare[0]}"
        raise Findings(f"Python imports {bare[0] / package}, not the installation in {folder}", hint=hint)
    if not (folder / package).is_dir() and (source := editable(folder / info)):
        said = f"the installation in {folder} is editable: its code lies in {source}"
        raise Findings(said, hint=f"verify the code itself: --tree {source}")
    return build.read_installation(folder, info, package)


def _find(folders: list[Path], package: str) -> tuple[list[tuple[Path, str]], list[Path]]:
    """Where the package is installed, in Python's order: each folder, and the name of its .dist-info; and each folder
    that holds the package alone, such as a checkout on PYTHONPATH, if Python would import that instead."""
    installed: list[tuple[Path, str]] = []
    bare: list[Path] = []
    seen = set()
    for folder in folders:
        if not folder.is_dir() or folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        infos = sorted(entry.name for entry in folder.glob(f"{package}-*.dist-info") if entry.is_dir())
        installed += [(folder, info) for info in infos]
        if not infos and not installed and (folder / package).is_dir():
            bare.append(folder)
    return installed, bare


def editable(info: Path) -> str:
    """The folder that an editable installation points to, or nothing."""
    try:
        url = str(json.loads((info / "direct_url.json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ""
    return url2pathname(urlsplit(url).path) if url.startswith("file:") else ""
