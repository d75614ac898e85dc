# SPDX-License-Identifier: Apache-2.0
"""Writes what a plan gives into set.toml and overlay.toml, comments kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import tomlkit

from patchset.plan.plan import Plan
from patchset.sets import overlay, symbols
from patchset.sets.setfile import PatchSet, Touched
from patchset.system import disk


def pin_overlay(patch_set: PatchSet, read: Callable[[str], bytes]) -> bool:
    """Writes the digests of the replaced symbols; says whether that changed anything."""
    file = overlay.overlay_toml(patch_set.name)
    modules = overlay.load(patch_set)
    if not modules.replaces:
        return False
    text = file.read_text(encoding="utf-8")
    document = tomlkit.parse(text)
    digests = {row: symbols.sha256(read(row.path), row.symbol) for row in modules.replaces}
    rows = iter(modules.replaces)
    for module in document["module"]:
        for entry in module.get("replaces", ()):
            if digest := digests[next(rows)]:
                entry["sha256"] = digest  # a symbol that is not there is left for the plan to refuse
    return _write(file, text, tomlkit.dumps(document))


def pin_result(plan: Plan) -> bool:
    """Writes [result]: the tree's digest and each touched file's; says whether that changed anything."""
    file = plan.patch_set.folder / "set.toml"
    after = with_result(plan.patch_set, plan.tree, plan.series, plan.touched)
    return _write(file, file.read_text(encoding="utf-8"), after.decode())


def with_result(patch_set: PatchSet, tree: str, series: str, touched: Mapping[str, Touched]) -> bytes:
    """set.toml with another [result]: digests of the tree, of the patch files and the overlay, and of touched files."""
    document = tomlkit.parse((patch_set.folder / "set.toml").read_text(encoding="utf-8"))
    files = {
        path: {key: sha for key, sha in (("upstream", row.upstream), ("patched", row.patched)) if sha}
        for path, row in sorted(touched.items())
    }
    document["result"] = {"tree": tree, "series": series, "files": files}
    return tomlkit.dumps(document).encode()


def _write(file: Path, before: str, after: str) -> bool:
    if before == after:
        return False
    disk.write(file, after.encode(), mode=0o644)
    return True
