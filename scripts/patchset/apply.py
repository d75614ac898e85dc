# SPDX-License-Identifier: Apache-2.0
"""`patchset apply`: from pins to a patched target, proven by reading it back."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from patchset import change, disk, distinfo, history, lock, manifest, plan
from patchset.assess import Report, State, assess
from patchset.errors import PinMismatch, TargetModified, UsageError, first_of
from patchset.source import Source
from patchset.state import FileState, Installed, Store
from patchset.target import Kind, Target, locate
from patchset.upstream import check_given

if TYPE_CHECKING:
    from patchset.plan import Plan
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal

_SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """What apply found and did.

    Attributes:
        target: what it worked on.
        plan: what the set means.
        result: applied, unchanged (it was applied already), or would apply (a dry run).
        changed: the files that were, or would be, written or removed.
        tree: digest of the resulting tree.
        commit: the last commit of a build tree; empty elsewhere.
    """

    target: Target
    plan: Plan
    result: str
    changed: tuple[str, ...]
    tree: str
    commit: str


def run(
    patch_set: PatchSet,
    *,
    folder: Path | None,
    upstream: Path | None,
    offline: bool,
    dry_run: bool,
    terminal: Terminal,
) -> Outcome:
    """Applies a set to the build tree, or in place to `folder`.

    Raises:
        PatchsetError: nothing was changed, or the next command finishes or takes back what was.
    """
    if upstream:
        check_given(patch_set, upstream)
    target = locate(patch_set, folder)
    store = Store(target.state)
    with ExitStack() as stack:
        place = None
        if dry_run:
            lock.refuse_if_held(store.lock)
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patchset-"))) / "pristine"
            if store.journal():
                hint = f"{_next('status', folder)} tells more"
                raise UsageError("a run was cut off here; a dry run cannot tell what is found after it", hint=hint)
        else:
            stack.enter_context(change.session(target, store))
            if done := change.recover(target, store, "apply"):
                terminal.step(done)
        source = Source(
            patch_set, given=upstream, offline=offline, terminal=terminal, target=target, store=store, place=place
        )
        report = assess(patch_set, target, store)
        refuse_modified(report, target, folder)
        made = plan.make_recorded(patch_set, source.read)
        if report.state is State.APPLIED:
            if not dry_run:
                _refresh(target, store, made, report, terminal)
            commit = history.tip(target.root, patch_set.name) if target.kind is Kind.BUILD else None
            return Outcome(target, made, "unchanged", (), made.tree, commit or "")
        desired = _desired(target, store, made, report, source)
        changed = tuple(sorted(desired))
        if dry_run or target.kind is not Kind.BUILD:
            _prove(made)
        if dry_run:
            return Outcome(target, made, "would apply", changed, made.tree, "")
        if report.state is State.ABSENT:
            commit = _build(target, store, made, source, terminal)
        else:
            commit = _change(target, store, made, desired, report, terminal)
        verify(target, made)
        return Outcome(target, made, "applied", changed, made.tree, commit)


def refuse_modified(report: Report, target: Target, folder: Path | None) -> None:
    """Raises TargetModified where a target holds what nobody could give back."""
    if report.authored:
        raise TargetModified(
            f"{target.root} has work of yours: {report.authored.what}; nothing was written",
            paths=[row.path for row in report.rows],
            hint=report.authored.next,
        )
    if report.state is not State.MODIFIED:
        return
    names = [f"{row.path}: {row.found.value}" for row in report.rows]
    hint = f"{_next('status', folder)} shows the state; keep your changes elsewhere and restore these files, "
    hint += "or remove the tree and apply anew" if target.kind is Kind.BUILD else "then run again"
    raise TargetModified(
        f"{target.root} is modified; nothing was written\n  " + "\n  ".join(first_of(names, _SHOWN)),
        paths=[row.path for row in report.rows],
        hint=hint,
    )


def _next(command: str, folder: Path | None) -> str:
    return f"make {command} TARGET={folder}" if folder else f"make {command}"


def _prove(made: Plan) -> None:
    """Lets git apply the series to the touched files in a folder of its own; raises where it differs from the plan."""
    with tempfile.TemporaryDirectory(prefix="patchset-") as scratch:
        history.prove(Path(scratch), made)


def _desired(
    target: Target, store: Store, made: Plan, report: Report, source: Source
) -> dict[str, tuple[bytes | None, bool]]:
    """The content of each file that is not yet as the set wants it."""
    desired = {path: (row.after, row.executable) for path, row in made.changes.items() if target.covers(path)}
    upstream = made.patch_set.sources()
    for path in report.files:  # an earlier version of the set has touched more
        if path not in desired and path != target.record:
            desired[path] = (source.read(path) if path in upstream else None, False)
    if target.record:
        record = _record_before(target, store, report.installed) or b""
        changes = {path: data for path, (data, _) in desired.items()}
        desired[target.record] = (distinfo.update(record, changes, str(target.root / target.record)), False)
    return change.differing(report.found, desired)


def _installed(target: Target, store: Store, made: Plan, record_before: bytes | None) -> Installed:
    """What state.json says of an applied set; keeps the original bytes."""
    files = {}
    for path, row in made.changes.items():
        if target.covers(path):
            if row.before is not None:
                store.keep(row.before)
            files[path] = FileState(row.touched.upstream, row.touched.patched, row.executable)
    if target.record and record_before is not None:
        after = distinfo.update(
            record_before, {path: made.changes[path].after for path in files}, str(target.root / target.record)
        )
        files[target.record] = FileState(store.keep(record_before), manifest.sha256(after))
    return Installed(made.patch_set.name, made.tree, made.series, files)


def _record_before(target: Target, store: Store, installed: Installed | None) -> bytes | None:
    """RECORD as it was before the set was first applied to this installation."""
    if target.record is None:
        return None
    now = (target.root / target.record).read_bytes()
    past = installed.files.get(target.record) if installed else None
    if past and past.before and past.after == manifest.sha256(now):
        return store.get(past.before)
    return now


def _refresh(target: Target, store: Store, made: Plan, report: Report, terminal: Terminal) -> None:
    """Brings what lies beside an applied target up to date: its state, and the history where headers have changed."""
    installed = report.installed
    if target.kind is Kind.BUILD:
        if installed and installed.series == made.series and history.tip(target.root, made.patch_set.name):
            return
        terminal.step("writing the git history anew")
        history.write(target.root, made, made.patch_set.upstream_manifest())
        history.point(target.root, made.patch_set.name)
        store.finish(_installed(target, store, made, None))
    elif installed is None:
        store.finish(_installed(target, store, made, None))


def _build(target: Target, store: Store, made: Plan, source: Source, terminal: Terminal) -> str:
    """Makes the whole tree beside its place, then renames it into place."""
    terminal.step(f"making {target.root}")
    staging = target.root.with_name(f".{target.root.name}.staging")
    disk.step("remove staging")
    shutil.rmtree(staging, ignore_errors=True)
    pristine = source.tree()
    disk.step("copy upstream")
    shutil.copytree(pristine, staging)
    disk.step("commit")
    commit = history.write(staging, made, manifest.walk(pristine))
    for path, row in made.changes.items():
        file = staging / path
        if row.after is None:
            disk.remove(file)
            disk.remove_empty_folders([file.parent])
            continue
        disk.make_folder(file.parent)
        new_mode = 0o755 if row.executable else 0o644
        disk.write(file, row.after, mode=new_mode if row.before is None else file.stat().st_mode & 0o777)
    history.point(staging, made.patch_set.name)
    verify(Target(target.kind, staging, target.state), made)
    installed = _installed(target, store, made, None)
    disk.step("rename the tree")
    staging.rename(target.root)
    disk.sync(target.root.parent)
    store.finish(installed)
    return commit


def _change(
    target: Target,
    store: Store,
    made: Plan,
    desired: dict[str, tuple[bytes | None, bool]],
    report: Report,
    terminal: Terminal,
) -> str:
    """Changes a target in place."""
    terminal.step(f"changing {len(desired)} files in {target.root}")
    commit = ""
    if target.kind is Kind.BUILD:
        disk.step("commit")
        commit = history.write(target.root, made, made.patch_set.upstream_manifest())
    installed = _installed(target, store, made, _record_before(target, store, report.installed))
    change.carry_out(target, store, "apply", report.found, desired, installed)
    return commit


def verify(target: Target, made: Plan) -> None:
    """Reads the target back; raises PinMismatch where a file is not what the plan says."""
    wanted = plan.patched_manifest(made.patch_set.sources(), made.touched)
    wanted = {path: sha for path, sha in wanted.items() if target.covers(path)}
    gone = [path for path, row in made.changes.items() if row.after is None and target.covers(path)]
    found = manifest.measure(target.root, [*wanted, *gone])
    if found == wanted:
        return
    path = min(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    raise PinMismatch(
        f"{target.root / path}, read back,",
        expected=wanted.get(path, "no file"),
        found=found.get(path, "no file"),
        hint="another program changed it meanwhile? run patchset status",
    )
