# SPDX-License-Identifier: Apache-2.0
"""`patchset revert`: upstream's exact bytes back, proven by their digests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from patchset.node.errors import PinMismatch, UsageError, plural
from patchset.sets.setfile import PatchSet
from patchset.system import disk, paths
from patchset.system.state import Store
from patchset.system.terminal import Terminal
from patchset.target import change, distinfo
from patchset.target.apply import refuse_modified
from patchset.target.assess import Assessment, Found, State, assess
from patchset.target.change import Files
from patchset.target.locate import Target, locate
from patchset.upstream.pristine import Source


@dataclass(frozen=True)
class RevertResult:
    target: Target
    result: str  # reverted, unchanged (there was nothing to take back), or would revert (a dry run)
    changed: tuple[str, ...]  # the files that were, or would be, given back or removed
    tree: str  # digest of upstream's files in the target
    rescued: tuple[str, ...] = ()  # modified files that were, or would be, copied before that


def run(
    patch_set: PatchSet,
    *,
    folder: Path | None,
    upstream: Path | None,
    offline: bool,
    terminal: Terminal,
    dry_run: bool = False,
    rescue: Path | None = None,
) -> RevertResult:
    """Takes a set back from the build tree, or from `folder`. Files that are neither upstream's nor the set's are
    copied to `rescue`, a new folder; without one they are refused. Raises UsageError where `make clean` removes it."""
    if rescue:
        _refuse_passing(rescue)
    target = locate(patch_set, folder)
    store = Store(target.state)
    source = Source(patch_set, given=upstream, offline=offline, terminal=terminal, root=target.root, store=store)
    if not target.root.is_dir():
        return RevertResult(target, "unchanged", (), "")
    with change.turn(target, store, "revert", terminal, dry_run=dry_run):
        report = assess(patch_set, target, store)
        modified = tuple(row.path for row in report.rows) if report.state is State.MODIFIED else ()
        if report.authored or not rescue:
            refuse_modified(report, target, patch_set)
        if report.state is State.PRISTINE:
            return RevertResult(target, "unchanged", (), report.digest)
        rescued = tuple(path for path in modified if (target.root / path).is_file())
        if dry_run:  # from what lies there alone
            changed = {path for path, found in report.files.items() if found is not Found.UPSTREAM}.union(modified)
            changed |= {target.record} if target.record else set()
            change.refuse_links(target.root, changed)
            return RevertResult(target, "would revert", tuple(sorted(changed)), "", rescued)
        if rescue and modified:
            _copy(target.root, rescued, rescue)
        desired = _desired(target, store, report, source)
        terminal.step(f"changing {plural(len(desired), 'file')} in {target.root}")
        change.carry_out(target, store, "revert", report.found, desired, None)
        report = assess(patch_set, target, store)
        if report.state is not State.PRISTINE:
            found = report.state.value
            raise PinMismatch(f"{target.root}, read back,", expected="pristine", found=found, hint="patchset status")
        result = "reverted" if desired else "unchanged"
        return RevertResult(target, result, tuple(sorted(desired)), report.digest, rescued)


def _refuse_passing(folder: Path) -> None:
    root = paths.repo_root().resolve()
    for name in ("build", "dist"):
        if folder.resolve().is_relative_to(root / name):
            hint = f"name a folder elsewhere, as RESCUE={root.parent / folder.name}"
            raise UsageError(f"{folder} is in {name}/, which `make clean` removes; nothing was changed", hint=hint)


def _copy(root: Path, files: Iterable[str], folder: Path) -> None:
    """Copies files of a target to where their owner finds them again; raises UsageError where the folder is there."""
    if folder.exists():
        raise UsageError(f"{folder} is there already; nothing was changed", hint="name a new folder with RESCUE=")
    for path in files:
        disk.make_folder((folder / path).parent)
        disk.write(folder / path, (root / path).read_bytes(), mode=(root / path).stat().st_mode & 0o777)


def _desired(target: Target, store: Store, report: Assessment, source: Source) -> Files:
    """Upstream's content of each file that holds something else."""
    upstream = source.patch_set.upstream_manifest()
    installed = report.installed.files if report.installed else {}
    differing = {*report.files, *(row.path for row in report.rows)} - {target.record}
    original = {path: source.read(path) if path in upstream else None for path in differing}
    if target.record:
        before = installed[target.record].before if target.record in installed else None
        kept = store.get(before) if before else None
        file = target.root / target.record
        original[target.record] = kept or distinfo.update(file.read_bytes(), original, str(file))
    return change.differing(report.found, {path: (data, False) for path, data in original.items()})
