# SPDX-License-Identifier: Apache-2.0
"""Upstream's bytes of single files, from the nearest place that has them, checked against the pins in each case."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from patchset.node.manifest import sha256
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.state import Store
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import materialize


@dataclass
class Source:
    patch_set: PatchSet
    _: KW_ONLY
    given: Path | None  # an sdist, a directory or a git checkout to take instead of the download
    offline: bool  # use the cache alone
    terminal: Terminal
    # A tree and kept originals to look at first: a tree that is pristine needs no network.
    root: Path | None = None
    store: Store | None = None
    place: Path | None = None  # where a whole tree is made if it is needed; build/<set>/pristine by default
    _tree: Path | None = field(default=None, init=False)

    def read(self, path: str) -> bytes:
        """Upstream's bytes of a file; raises PinMismatch, Unavailable, UsageError: it could not be had as pinned."""
        wanted = self.patch_set.upstream_manifest()[path]
        if self.root:
            file = self.root / path
            if file.is_file() and sha256(data := file.read_bytes()) == wanted:
                return data
        if self.store and (kept := self.store.get(wanted)) is not None:
            return kept
        return (self.tree() / path).read_bytes()

    def tree(self) -> Path:
        """A whole tree, made and verified once a run."""
        if self._tree is None:
            place = self.place or paths.pristine_dir(self.patch_set.name)
            whole = self.given is None
            materialize(
                self.patch_set, place, upstream=self.given, offline=self.offline, whole=whole, terminal=self.terminal
            )
            self._tree = place
        return self._tree
