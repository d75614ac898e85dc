# SPDX-License-Identifier: Apache-2.0
"""The content-addressed cache of downloads: <cache>/<sha256>/<file name>, checked at every use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from patchset.node.errors import PinMismatch, Unavailable
from patchset.node.manifest import sha256_file
from patchset.sets.setfile import Artifact
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.upstream.index import download


def location(artifact: Artifact) -> Path:
    """Where an artifact lies in the cache, whether it is there or not."""
    return paths.cache_dir() / artifact.sha256 / artifact.file


def check(file: Path, artifact: Artifact, *, hint: str = "") -> None:
    """Raises PinMismatch unless a file has the artifact's digest."""
    found = sha256_file(file)
    if found != artifact.sha256:
        raise PinMismatch(str(file), expected=artifact.sha256, found=found, hint=hint)


def fetch(artifact: Artifact, *, offline: bool, terminal: Terminal | None = None) -> Path:
    """The verified artifact: from the cache, or from the index that pip is configured with. Raises Unavailable: it is
    not cached, and offline was asked for or the index did not give it; PinMismatch: what came is not what the set
    pins."""
    file = location(artifact)
    by_hand = f"or put the file there by hand: {file}"
    if file.is_file():
        found = sha256_file(file)
        if found == artifact.sha256:
            return file
        if offline:
            hint = "run again without OFFLINE=1 to fetch it anew"
            raise PinMismatch(f"the cached {file}", expected=artifact.sha256, found=found, hint=hint)
        file.unlink()
    if offline:
        what = f"{artifact.file} is not in the cache, and offline was asked for\n  cache: {paths.cache_dir()}"
        raise Unavailable(what, hint=f"run once without OFFLINE=1, {by_hand}")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        _download(artifact, partial, terminal, by_hand)
        hint = "the index serves another file under this name; the pin decides, so nothing was kept"
        check(partial, artifact, hint=hint)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
        with suppress(OSError):
            file.parent.rmdir()  # goes only where nothing came
    return file


def _download(artifact: Artifact, partial: Path, terminal: Terminal | None, by_hand: str) -> None:
    """As index.download; what it raises says, too, how to do without an index. Not every command takes UPSTREAM."""
    try:
        download(artifact, partial, terminal)
    except Unavailable as error:
        raise Unavailable(error.message, hint=f"{error.hint}, {by_hand}") from error
