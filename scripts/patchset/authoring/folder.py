# SPDX-License-Identifier: Apache-2.0
"""Writes patches/ and overlay/, all or nothing: with the journal that a change of a target has."""

from __future__ import annotations

from collections.abc import Mapping

from patchset.node import manifest
from patchset.node.errors import PinMismatch
from patchset.plan import pins, plan
from patchset.plan.plan import Plan, Recipe
from patchset.sets import series, setfile
from patchset.sets.setfile import PatchSet, Touched
from patchset.system import paths
from patchset.system.state import Store
from patchset.system.terminal import Terminal
from patchset.target import change
from patchset.target.locate import Kind, Target

Files = dict[str, bytes | None]  # by path below the repository; None for one that goes


def with_patches(patch_set: PatchSet, patches: Mapping[str, bytes]) -> Files:
    """What patches/<set> holds with these patches, by name in the order of the series, and no others."""
    wanted: dict[str, bytes | None] = {entry.name: None for entry in patch_set.folder.glob("*.patch")}
    listing = (patch_set.folder / "series").read_text(encoding="utf-8")
    wanted.update(patches)
    wanted["series"] = series.rewrite(listing, list(patches)).encode()
    return {f"patches/{patch_set.name}/{name}": data for name, data in wanted.items()}


def with_results(made: Plan, modules: Mapping[str, bytes | None]) -> Files:
    """set.toml of a plan's set, and of every other set that installs one of the modules, with their new digests.
    `modules` are the files of overlay/ that change, by path below the repository; None for one that goes. Raises
    PinMismatch: another set is not as its set.toml pins it, so that nobody knows what to pin."""
    found: Files = {_set_toml(made.patch_set): pins.with_result(made.patch_set, made.tree, made.series, made.touched)}
    for name in paths.sets() if modules else ():
        if name == made.patch_set.name:
            continue
        other = setfile.load_set(name)
        recipe = plan.load(other)
        installed = {paths.overlay_file(name, path): path for path in recipe.overlay.files}
        changed = {installed.get(paths.repo_root() / file): data for file, data in modules.items()}
        new = {path: data for path, data in changed.items() if path is not None}
        if not new:
            continue
        if not recipe.pinned:
            hint = f"make pin VERSION={name}, then export again"
            raise PinMismatch(f"set {name}", expected=other.series or "(not pinned)", found=recipe.series, hint=hint)
        recipe = Recipe(other, recipe.patches, recipe.overlay.with_files(new))
        touched = {path: row for path, row in other.touched.items() if path not in new}
        touched |= {path: Touched(None, manifest.sha256(data)) for path, data in new.items() if data is not None}
        tree = manifest.digest(plan.patched_manifest(other.sources(), touched))
        found[_set_toml(other)] = pins.with_result(other, tree, recipe.series, touched)
    return found


def _set_toml(patch_set: PatchSet) -> str:
    return f"patches/{patch_set.name}/set.toml"


def differing(wanted: Mapping[str, bytes | None]) -> Files:
    """Those files of the repository that are not as wanted yet."""
    found = manifest.measure(paths.repo_root(), wanted)
    return {
        path: data
        for path, data in sorted(wanted.items())
        if found.get(path) != (None if data is None else manifest.sha256(data))
    }


def write(patch_set: PatchSet, command: str, files: Mapping[str, bytes | None], terminal: Terminal) -> None:
    """Brings files to their content, None removes one; raises Locked, TargetModified: changed meanwhile, or a link."""
    target, store = _place(patch_set)
    with store.session():
        if done := change.recover(target, store, command):
            terminal.step(done)
        if files:
            found = manifest.measure(target.root, files)
            change.carry_out(target, store, command, found, {name: (data, False) for name, data in files.items()}, None)


def recover(patch_set: PatchSet, command: str, terminal: Terminal) -> None:
    """Ends what a run that was cut off had begun to write."""
    if _place(patch_set)[1].journal() is not None:
        write(patch_set, command, {}, terminal)


def _place(patch_set: PatchSet) -> tuple[Target, Store]:
    state = paths.patches_state(patch_set.name)
    return Target(Kind.CHECKOUT, paths.repo_root(), patch_set.name, state), Store(state)
