# SPDX-License-Identifier: Apache-2.0
"""Upstream's bytes of single files, from the nearest place that has them, checked against the pins in each case."""

from __future__ import annotations

from pathlib import Path

from patchset.node.manifest import sha256
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.state import Store
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import materialize


class Source:
    """Reads upstream's files.

    Args:
        patch_set: whose upstream.
        given: an sdist, a directory or a git checkout to take instead of the download.
        offline: use the cache alone.
        terminal: where progress goes.
        root, store: a tree and kept originals to look at first; a tree that is pristine needs no network.
        place: where a whole tree is made if it is needed; build/<set>/pristine by default.
    """

    def __init__(
        self,
        patch_set: PatchSet,
        *,
        given: Path | None,
        offline: bool,
        terminal: Terminal,
        root: Path | None = None,
        store: Store | None = None,
        place: Path | None = None,
    ) -> None:
        self.patch_set = patch_set
        self._given = given
        self._offline = offline
        self._terminal = terminal
        self._root = root
        self._store = store
        self._manifest = patch_set.upstream_manifest()
        self._place = place or paths.pristine_dir(patch_set.name)
        self._tree: Path | None = None

    def read(self, path: str) -> bytes:
        """Upstream's bytes of a file of the upstream manifest.

        Raises:
            PinMismatch, Unavailable, UsageError: upstream could not be had as pinned.
        """
        wanted = self._manifest[path]
        if self._root:
            file = self._root / path
            if file.is_file() and sha256(data := file.read_bytes()) == wanted:
                return data
        if self._store and (kept := self._store.get(wanted)) is not None:
            return kept
        return (self.tree() / path).read_bytes()

    def tree(self) -> Path:
        """A whole tree, made and verified once a run."""
        if self._tree is None:
            materialize(
                self.patch_set,
                self._place,
                upstream=self._given,
                offline=self._offline,
                whole=self._given is None,
                terminal=self._terminal,
            )
            self._tree = self._place
        return self._tree
