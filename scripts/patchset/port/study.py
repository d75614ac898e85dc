# SPDX-License-Identifier: Apache-2.0
"""What a release makes of a set: everything that carrying it there starts from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset import archive, cache, manifest, plan
from patchset.port import carry, pins, report, symbols
from patchset.port.workshop import Workshop
from patchset.source import Source

if TYPE_CHECKING:
    from pathlib import Path

    from patchset.port.report import Report
    from patchset.setfile import PatchSet, Release
    from patchset.terminal import Terminal


@dataclass(frozen=True)
class Study:
    """Everything that carrying a set to a release starts from."""

    plan: plan.Plan
    old_tree: Path
    new_tree: Path
    files: manifest.Manifest
    shop: Workshop
    report: Report


def make(old: PatchSet, new: Release, place: Path, name: str, *, terminal: Terminal, offline: bool) -> Study:
    """Unpacks the release and carries the series there to see.

    Args:
        old: the set.
        new: the vllm-ascend release.
        place: a folder for the unpacked release and the work tree; what is there is replaced.
        name: of the branch that the result is on.
        terminal: where progress goes.
        offline: use the cache alone.

    Raises:
        UsageError, PinMismatch, Unavailable, PatchDoesNotApply: as reading the set, the release and the cache do.
    """
    source = Source(old, given=None, offline=offline, terminal=terminal)
    made = plan.make(old, source.read)
    old_tree, new_tree = source.tree(), place / "upstream"
    sdist = cache.fetch(new.sdist, offline=offline, terminal=terminal)
    shutil.rmtree(place, ignore_errors=True)
    archive.unpack(sdist, new_tree)
    said = pins.read(new_tree, new.wheels)
    files = manifest.measure(new_tree, manifest.walk(new_tree))
    terminal.step(f"carrying {len(made.steps)} patches from vllm-ascend {old.ascend.version} to {new.version}")
    shop = Workshop.make(place / "tree", name, made, old_tree, new_tree)
    found = report.Report(
        old=old,
        release=new,
        manifest=manifest.digest(files),
        pins=said,
        fates=carry.assess(shop, made),
        symbols=symbols.look(made.overlay.replaces, old_tree, new_tree, shop.renames),
    )
    return Study(made, old_tree, new_tree, files, shop, found)
