# SPDX-License-Identifier: Apache-2.0
"""`patchset apply`: from pins to a patched target, proven by reading it back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.node import fingerprint, manifest
from patchset.node.errors import PinMismatch, TargetModified, first_of, plural
from patchset.plan import history, plan
from patchset.plan.plan import Recipe
from patchset.sets.setfile import PatchSet
from patchset.system import disk
from patchset.system.state import FileState, Installed, Store
from patchset.system.terminal import Terminal
from patchset.target import change, distinfo
from patchset.target.assess import Assessment, State, assess, looks_like
from patchset.target.change import Files
from patchset.target.locate import Kind, Target, build_tree, locate
from patchset.upstream.pristine import Source

_SHOWN = 20


@dataclass(frozen=True)
class ApplyResult:
    target: Target
    recipe: Recipe
    result: str  # applied, unchanged (it was applied already), or would apply (a dry run)
    changed: tuple[str, ...]  # the files that were, or would be, written or removed
    tree: str  # digest of upstream's and the set's files that are then in the target; of a whole tree, set.toml's
    fingerprint: str  # of the package that is then there
    commit: str  # the last commit of a build tree; empty elsewhere


def run(
    patch_set: PatchSet, *, folder: Path | None, upstream: Path | None, offline: bool, dry_run: bool, terminal: Terminal
) -> ApplyResult:
    """Applies a set to the build tree, or in place to `folder`; raises as `change.carry_out`, or before any change."""
    target = locate(patch_set, folder)
    store = Store(target.state)
    source = Source(patch_set, given=upstream, offline=offline, terminal=terminal, root=target.root, store=store)
    wanted = _wanted(target, patch_set)

    def outcome(result: str, changed: Iterable[str], commit: str = "") -> ApplyResult:
        tree, seal = manifest.digest(wanted), fingerprint.of(wanted, patch_set.package)
        return ApplyResult(target, recipe, result, tuple(sorted(changed)), tree, seal, commit)

    with ExitStack() as stack:
        stack.enter_context(change.turn(target, store, "apply", terminal, dry_run=dry_run))
        if dry_run:
            source.place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patchset-"))) / "pristine"
        report = assess(patch_set, target, store)
        refuse_modified(report, target, patch_set)
        recipe = plan.load(patch_set)
        if not recipe.pinned:  # what is pinned was checked when it was; its result is held to set.toml below
            plan.make_pinned(patch_set, source.read)
        if report.state is State.APPLIED:
            if not dry_run:
                _refresh(target, store, recipe, source, report, terminal)
            commit = history.tip(target.root, patch_set.name) if target.kind is Kind.BUILD else None
            return outcome("unchanged", (), commit or "")
        if report.state is State.ABSENT and not dry_run:
            commit = _build(target, store, recipe, source, terminal)
            return outcome("applied", patch_set.touched, commit)
        commit, files = "", {}
        if target.kind is Kind.BUILD and not dry_run:
            disk.step("commit")
            written = history.write(target.root, recipe, source.read, patch_set.upstream_manifest())
            commit, files = written.tip, dict(written.files)
        else:
            files = _copies(patch_set) or plan.outcome(recipe, source.read)
        _refuse_other(files, patch_set)
        desired = _desired(target, store, files, report, source)
        if dry_run:
            change.refuse_links(target.root, desired)
            return outcome("would apply", desired)
        terminal.step(f"changing {plural(len(desired), 'file')} in {target.root}")
        installed = _installed(target, store, recipe, source, report, files)
        change.carry_out(target, store, "apply", report.found, desired, installed)
        _verify(target, patch_set)
        return outcome("applied", desired, commit)


def refuse_modified(report: Assessment, target: Target, patch_set: PatchSet) -> None:
    """Raises TargetModified where a target holds what nobody could give back."""
    if report.authored:
        said, hint = f"has work of yours: {report.authored.what}; nothing was written", report.authored.next
    elif report.state is State.MODIFIED:
        names = first_of([f"{row.path}: {row.found.value}" for row in report.rows], _SHOWN)
        said = "\n  ".join(["is modified; nothing was written", *looks_like(report, target, patch_set), *names])
        hint = f"make status{target.named} shows the state; make revert{target.named} RESCUE=dir copies these files to "
        hint += "a new folder and gives upstream's back"
    else:
        return
    raise TargetModified(f"{target.root} {said}", paths=[row.path for row in report.rows], hint=hint)


def _copies(patch_set: PatchSet) -> Files:
    """What the set makes of each file, where the build tree holds just that; else nothing."""
    root = build_tree(patch_set).root
    found: Files = {}
    for path, row in patch_set.touched.items():
        data, executable = disk.read(root / path) if row.patched else (None, False)
        if (None if data is None else manifest.sha256(data)) != row.patched:
            return {}
        found[path] = (data, executable)
    return found


def _refuse_other(files: Files, patch_set: PatchSet) -> None:
    """Raises PinMismatch where git makes another file than set.toml pins."""
    whole = plan.patched_manifest(patch_set.sources(), patch_set.touched)
    for path, (data, _) in files.items():
        wanted, found = whole.get(path, "no file"), "no file" if data is None else manifest.sha256(data)
        if found != wanted:
            hint = f"patchset pin {patch_set.name}, if the series was changed on purpose"
            raise PinMismatch(path, expected=wanted, found=found, hint=hint)


def _desired(target: Target, store: Store, files: Files, report: Assessment, source: Source) -> Files:
    """The content of each file that is not yet as the set wants it; `files` is what it makes of those it changes."""
    desired = {path: row for path, row in files.items() if target.covers(path)}
    upstream = source.patch_set.sources()
    for path in report.files:  # an earlier version of the set has touched more
        if path not in desired and path != target.record:
            desired[path] = (source.read(path) if path in upstream else None, False)
    if target.record:
        record = _record_before(target, store, report.installed) or b""
        changes = {path: data for path, (data, _) in desired.items()}
        desired[target.record] = (distinfo.update(record, changes, str(target.root / target.record)), False)
    return change.differing(report.found, desired)


def _installed(
    target: Target,
    store: Store,
    recipe: Recipe,
    source: Source,
    report: Assessment | None = None,
    made: Files | None = None,
) -> Installed:
    """What state.json says of an applied set; keeps the original bytes. A target with a RECORD needs the report on what
    it held before, and what the set made of the files that it changes."""
    patch_set = recipe.patch_set
    files = {}
    for path, row in patch_set.touched.items():
        if target.covers(path):
            if row.upstream:
                store.keep(source.read(path))
            files[path] = FileState(row.upstream, row.patched)
    before = _record_before(target, store, report.installed) if report else None
    if target.record and before is not None and made is not None:
        after = distinfo.update(before, {path: made[path][0] for path in files}, str(target.root / target.record))
        files[target.record] = FileState(store.keep(before), manifest.sha256(after))
    return Installed(patch_set.name, patch_set.tree, recipe.series, files)


def _record_before(target: Target, store: Store, installed: Installed | None) -> bytes | None:
    """RECORD as it was before the set was first applied to this installation."""
    if target.record is None:
        return None
    now = (target.root / target.record).read_bytes()
    past = installed.files.get(target.record) if installed else None
    if past and past.before and past.after == manifest.sha256(now):
        return store.get(past.before)
    return now


def _refresh(
    target: Target, store: Store, recipe: Recipe, source: Source, report: Assessment, terminal: Terminal
) -> None:
    """Brings what lies beside an applied target up to date: its state, and the history where headers have changed."""
    installed, patch_set, tree = report.installed, recipe.patch_set, target.kind is Kind.BUILD
    same = installed and (not tree or (installed.series == recipe.series and history.tip(target.root, patch_set.name)))
    if same:
        return
    if tree:
        terminal.step("writing the git history anew")
        remember(target, recipe, source)
    else:
        store.finish(_installed(target, store, recipe, source))


def remember(target: Target, recipe: Recipe, source: Source) -> None:
    """Makes history and state of a build tree those of the set whose files it holds; the caller has its lock."""
    patch_set, store = recipe.patch_set, Store(target.state)
    history.write(target.root, recipe, source.read, patch_set.upstream_manifest())
    history.point(target.root, patch_set.name)
    store.finish(_installed(target, store, recipe, source))


def _build(target: Target, store: Store, recipe: Recipe, source: Source, terminal: Terminal) -> str:
    """Makes the whole tree beside its place, then renames it into place; its last commit."""
    terminal.step(f"making {target.root}")
    staging = target.root.with_name(f".{target.root.name}.staging")
    disk.step("remove staging")
    shutil.rmtree(staging, ignore_errors=True)
    pristine = source.tree()
    disk.step("copy upstream")
    shutil.copytree(pristine, staging)
    disk.step("commit")
    commit = history.begin(staging, recipe)
    for path, row in recipe.patch_set.touched.items():
        if row.patched:
            disk.sync(staging / path)
    _verify(replace(target, root=staging), recipe.patch_set)
    installed = _installed(target, store, recipe, source)
    disk.step("rename the tree")
    staging.rename(target.root)
    disk.sync(target.root.parent)
    store.finish(installed)
    return commit


def _wanted(target: Target, patch_set: PatchSet) -> manifest.Manifest:
    """What a target has once the set is applied."""
    return target.covered(plan.patched_manifest(patch_set.sources(), patch_set.touched))


def _verify(target: Target, patch_set: PatchSet) -> None:
    """Reads the target back; raises PinMismatch where a file is not what set.toml pins."""
    wanted = _wanted(target, patch_set)
    gone = [path for path, row in patch_set.touched.items() if row.patched is None and target.covers(path)]
    found = manifest.measure(target.root, [*wanted, *gone])
    if found == wanted:
        return
    path = min(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    what, hint = f"{target.root / path}, read back,", "another program changed it meanwhile? run patchset status"
    raise PinMismatch(what, expected=wanted.get(path, "no file"), found=found.get(path, "no file"), hint=hint)
