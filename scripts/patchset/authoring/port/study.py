# SPDX-License-Identifier: Apache-2.0
"""The study of a release for a port: the facts that the port starts from."""

from __future__ import annotations

import shutil
from pathlib import Path

from patchset.authoring.port import changes, pins, replaced, report
from patchset.authoring.port.rebase import Tree
from patchset.authoring.port.report import PortReport
from patchset.node import manifest
from patchset.node.errors import plural
from patchset.plan import plan
from patchset.sets.setfile import PatchSet, Release
from patchset.system.terminal import Terminal
from patchset.upstream import archive, cache
from patchset.upstream.source import Source


def make(
    old: PatchSet,
    new: Release,
    place: Path,
    name: str,
    *,
    terminal: Terminal,
    offline: bool,
    clone: Path | None = None,
) -> PortReport:
    """Unpacks the vllm-ascend release `new` and rebases the series there to see.

    `place`, the folder of the unpacked release and of the work tree, is made anew; the result is on the branch `name`.
    From a `clone` of upstream that has the commits of both releases it is told what changed a patch's lines.

    Raises:
        UsageError, PinMismatch, Unavailable, PatchDoesNotApply: as reading the set, the release and the cache do.
    """
    source = Source(old, given=None, offline=offline, terminal=terminal)
    made = plan.make_recorded(old, source.read)
    old_tree, new_tree = source.tree(), place / "upstream"
    sdist = cache.fetch(new.sdist, offline=offline, terminal=terminal)
    shutil.rmtree(place, ignore_errors=True)
    archive.unpack(sdist, new_tree)
    said = pins.read(new_tree, new.wheels)
    files = manifest.measure(new_tree, manifest.walk(new_tree))
    terminal.step(f"carrying {plural(len(made.steps), 'patch')} from vllm-ascend {old.ascend.version} to {new.version}")
    tree = Tree.make(place / "tree", name, made, old_tree, new_tree)
    carried = tree.assess()
    history = changes.repository(clone, (old.ascend.commit, new.commit)) if clone else None
    fates = []
    for patch in made.recipe.patches:
        one = carried[patch.header.subject]
        told = {
            path: changes.of(history, patch, path, old.ascend.commit, new.commit) if history else ()
            for path in one.files
        }
        fates.append(report.Fate(patch, one.outcome, told, one.lost))
    return PortReport(
        old=old,
        release=new,
        files=files,
        pins=said,
        fates=tuple(fates),
        symbols=replaced.look(made.overlay.replaces, old_tree, new_tree, tree.renames()),
    )
