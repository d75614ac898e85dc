# SPDX-License-Identifier: Apache-2.0
"""What a wheel or an installation holds, read without trusting it: the digest of each file, RECORD and the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError
from patchset.node.verify import entry
from patchset.node.verify.declared import Row

MANIFEST = "patchset.json"

_CACHES = ("__pycache__",)


@dataclass(frozen=True)
class Build:
    where: Path  # the wheel's file, or the folder that holds the installed package
    dist_info: str  # name of its .dist-info folder
    files: Mapping[str, Row]  # by path, as RECORD names it; what is no regular file has manifest.NO_FILE
    info: Mapping[str, bytes]  # content of each file at the top of dist_info, by its name
    installed: bool  # whether an installer has been at it, which adds files to dist_info and rows to RECORD

    @property
    def version(self) -> str:
        """As in the name of dist_info.

        >>> Build(None, "vllm_ascend-0.10.1rc1+dp.1.dist-info", {}, {}, False).version
        '0.10.1rc1+dp.1'
        """
        return self.dist_info[: -len(".dist-info")].partition("-")[2]

    @property
    def digests(self) -> dict[str, str]:
        return {path: content.sha256 for path, content in self.files.items()}


def read_wheel(file: Path) -> Build:
    """Reads a wheel; raises UsageError where there is no such file, Findings for one that no installer should open."""
    if not file.is_file():
        raise UsageError(f"no such file: {file}", hint="give a .whl file of dist/<set>")
    try:
        entries = entry.read(file.read_bytes(), str(file))
    except UsageError as error:
        raise Findings(error.message, hint="do not install it; get the wheel again") from error
    contents = {one.path: one.data for one in entries if not one.is_folder}
    files = {path: Row(manifest.sha256(data), len(data)) for path, data in contents.items()}
    infos = sorted({path.partition("/")[0] for path in contents if ".dist-info/" in path})
    if len(infos) != 1 or not infos[0].endswith(".dist-info"):
        raise Findings(f"{file} has {len(infos)} .dist-info folders at its top, not one", hint="get the wheel again")
    top = f"{infos[0]}/"
    info = {path[len(top) :]: data for path, data in contents.items() if path.startswith(top)}
    return Build(file, infos[0], files, info, installed=False)


def read_installation(folder: Path, dist_info: str, package: str) -> Build:
    """Reads the installation of a package in site-packages, by the name of its .dist-info folder."""
    paths = [f"{top}/{path}" for top in (package, dist_info) for path in manifest.walk(folder / top, skip=_CACHES)]
    files = {path: _content(folder / path) for path in paths}
    info = {file.name: file.read_bytes() for file in (folder / dist_info).iterdir() if not file.is_dir()}
    return Build(folder, dist_info, files, info, installed=True)


def _content(file: Path) -> Row:
    if file.is_symlink() or not file.is_file():
        return Row(manifest.NO_FILE, 0)
    return Row(manifest.sha256_file(file), file.stat().st_size)
