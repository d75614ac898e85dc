# SPDX-License-Identifier: Apache-2.0
"""Work in build/ and dist/ that is nowhere else: `make clean` must not take it away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from patchset.authoring.port import work
from patchset.node.errors import TargetModified, plural
from patchset.sets.setfile import load_set
from patchset.system import paths
from patchset.system.state import Store
from patchset.target.assess import State, assess
from patchset.target.locate import build_tree


def refuse() -> None:
    """Raises TargetModified if unsaved work exists; the message names each piece, and the command that saves it."""
    found = list(_look())
    if not found:
        return
    rows = "\n".join(f"  {place}: {what}" for place, what in found)
    raise TargetModified(
        f"there is work to lose; nothing was removed\n{rows}",
        paths=[str(place) for place, _ in found],
        hint="keep it, then run again; `make clean-all` removes it with the rest",
    )


def _look() -> Iterator[tuple[Path, str]]:
    for name in paths.sets():
        patch_set = load_set(name)
        target = build_tree(patch_set)
        if not target.root.is_dir():
            continue
        report = assess(patch_set, target, Store(target.state))
        if report.authored:
            yield target.root, f"{report.authored.what}; keep them with {report.authored.next}"
        elif report.state is State.MODIFIED:
            yield (
                target.root,
                f"{plural(len(report.rows), 'file')} changed by hand; `patchset status {name}` names them",
            )
    for tree in sorted((paths.repo_root() / "build").glob("v*/vllm-ascend")):
        if tree.parent.name not in paths.sets():
            yield tree, "the tree of a set that is not in patches/ here"
    for name in work.running():
        yield (
            work.folder(name),
            f"a port is under way; end it with make port STEP=finish TO={name}, or STEP=abort",
        )
    for signature in sorted((paths.repo_root() / "dist").glob("*/SHA256SUMS.minisig")):
        yield signature.parent, "signed wheels; move them elsewhere"
