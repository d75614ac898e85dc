# SPDX-License-Identifier: Apache-2.0
"""Writes patches/<set>, all or nothing: with the journal that a change of a target has, so a cut-off run is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import change, manifest, paths, record, series
from patchset.state import Store
from patchset.target import Kind, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patchset.plan import Plan
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal


def with_patches(patch_set: PatchSet, patches: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """What patches/<set> holds with these patches and no others: patch files and series; None for one that goes.

    Args:
        patch_set: whose folder.
        patches: the patch files by name, in the order of the series.
    """
    wanted: dict[str, bytes | None] = {entry.name: None for entry in patch_set.folder.glob("*.patch")}
    listing = (patch_set.folder / "series").read_text(encoding="utf-8")
    wanted.update(patches)
    wanted["series"] = series.rewrite(listing, list(patches)).encode()
    return wanted


def with_result(made: Plan) -> dict[str, bytes | None]:
    """set.toml with the digests of what a plan makes."""
    text = (made.patch_set.folder / "set.toml").read_text(encoding="utf-8")
    return {"set.toml": record.with_result(text, made).encode()}


def differing(patch_set: PatchSet, wanted: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """Those files of patches/<set> that are not as wanted yet, by name."""
    found = manifest.measure(patch_set.folder, wanted)
    return {
        name: data
        for name, data in sorted(wanted.items())
        if found.get(name) != (None if data is None else manifest.sha256(data))
    }


def write(patch_set: PatchSet, command: str, files: Mapping[str, bytes | None], terminal: Terminal) -> None:
    """Brings files of patches/<set> to their content; None removes one.

    Raises:
        Locked: another run writes the folder.
        TargetModified: a file was changed by someone else meanwhile, or is a link.
    """
    target, store = _place(patch_set)
    with store.session():
        if done := change.recover(target, store, command):
            terminal.step(done)
        found = manifest.measure(target.root, files)
        change.carry_out(target, store, command, found, {name: (data, False) for name, data in files.items()}, None)


def recover(patch_set: PatchSet, command: str, terminal: Terminal) -> None:
    """Ends what a run that was cut off had begun to write."""
    target, store = _place(patch_set)
    if store.journal() is None:
        return
    with store.session():
        if done := change.recover(target, store, command):
            terminal.step(done)


def _place(patch_set: PatchSet) -> tuple[Target, Store]:
    state = paths.patches_state(patch_set.name)
    return Target(Kind.CHECKOUT, patch_set.folder, state), Store(state)
