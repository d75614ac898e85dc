# SPDX-License-Identifier: Apache-2.0
"""A port from its start to the new set: build/port/<set>/ until it is whole, patches/<set> then.

build/port/<set>/upstream     the new upstream, unpacked
build/port/<set>/tree         the work tree, whose state is git's (see `rebase`)
build/port/<set>/set          the new set, until it is moved to patches/ and overlay/
build/port/<set>/set.toml     its pins
build/port/<set>/report.*     what was found at the start; the JSON says which set is carried, and is written last
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patchset.authoring import export, tree
from patchset.authoring.port import newset, release, replaced, report, study
from patchset.authoring.port.rebase import UPSTREAM, Stop, Tree
from patchset.authoring.port.report import PortReport
from patchset.node import manifest
from patchset.node.errors import Findings, PatchDoesNotApply, UsageError
from patchset.plan import commits, history
from patchset.sets import overlay, series
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import disk, lock, paths
from patchset.system.git import Repository
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source

FILE = "report.json"


@dataclass(frozen=True)
class Done:
    made: PatchSet  # the new set
    kept: tuple[str, ...]  # names of its patches
    dropped: tuple[str, ...]  # names of the old patches that are not in it
    report: Path  # what was found at the start, as a page


def folder(name: str) -> Path:
    return paths.repo_root() / "build" / "port" / name


@contextmanager
def hold(name: str) -> Iterator[None]:
    """One run at a time works on a port."""
    with lock.hold(folder(name).with_name(f".{name}.lock")) as killed:
        if killed:
            Repository(folder(name) / "tree").unlock()
            newset.take_back(name, folder(name) / "set")
        yield


def running() -> list[str]:
    return sorted(file.parent.name for file in (paths.repo_root() / "build" / "port").glob(f"*/{FILE}"))


def choose(name: str | None) -> str:
    """The set that is being made, the only one without a name; raises UsageError: there is none, or more than one."""
    found = running()
    if name is None and len(found) == 1:
        return found[0]
    if name is None or name not in found:
        what = f"no port to {name} is under way" if name else "which port?" if found else "no port is under way"
        hint = f"name one with --to: {', '.join(found)}" if found else "patchset port --from SET --to SET begins one"
        raise UsageError(what, hint=hint)
    return name


def check(old_name: str, name: str) -> PatchSet:
    """The set to carry; raises UsageError before anything is fetched if the new set exists already."""
    old = load_set(old_name)
    if name in running():
        raise UsageError(f"a port to {name} is under way", hint="make port STEP=finish, or STEP=abort")
    for there in (paths.set_dir(name), paths.overlay_dir(name)):
        if there.exists():
            raise UsageError(f"{there} is there already", hint="a port makes a new set; remove that one first")
    return old


def start(
    old: PatchSet, name: str, *, ascend: str, commit: str, clone: Path | None, terminal: Terminal, offline: bool
) -> PortReport:
    """Begins a port of a set to the new set `name`; nothing has been rebased yet when this returns. `ascend` is a
    version of vllm-ascend, empty for the newest that is named after the vLLM version; `commit`, of its tag, may be
    empty. From a `clone` of upstream it is told which commits changed the patches' lines. Offline, the index is asked
    for the release all the same. Raises PinMismatch: the release is for another vLLM."""
    vllm = name.removeprefix("v")
    new = release.find(release.ASCEND, ascend or release.ascend_for(vllm), commit=commit)
    found = study.make(old, new, folder(name), name, terminal=terminal, offline=offline, clone=clone)
    release.check_vllm(found.pins, vllm, new.version)
    text = newset.set_toml(name, old, release.find(release.VLLM, vllm), new, found.pins, found.files)
    place = folder(name)
    (place / "set.toml").write_text(text, encoding="utf-8")
    (place / "report.html").write_text(report.page(found), encoding="utf-8")
    disk.write(place / FILE, (json.dumps(found.as_dict(), indent=2) + "\n").encode(), mode=0o644)
    return found


def carry(name: str) -> None:
    """Rebases the patches; raises PatchDoesNotApply where git stops at a conflict."""
    if stop := Tree(folder(name) / "tree", name).carry():
        raise _stopped(name, stop)


def finish(name: str, *, reviewed: bool, terminal: Terminal, offline: bool) -> Done:
    """Writes the new set from the commits of the work tree. With `reviewed` the maintainer has read what upstream
    changed in the code that overlay modules replace. Raises PatchDoesNotApply: a conflict is not resolved, or a commit
    is no patch; the set is not written; TargetModified: the work tree has changes that are in no commit; Findings:
    replaced code differs, and `reviewed` is not given."""
    place, staging = folder(name), folder(name) / "set"
    old = _carried(name)
    there = series.read(old.folder)
    if newset.installed(name, staging):
        return _end(load_set(name), there)
    newset.take_back(name, staging)
    work = Tree(place / "tree", name)
    repository, upstream = work.repository, place / "upstream"
    if not work.carried:
        carry(name)  # the first run was cut off
    if history.underway(work.root) is not history.Underway.NOTHING:
        raise _stopped(name, work.stop())
    tree.refuse_changes(repository, old)
    source = Source(old, offline=offline, terminal=terminal)
    ours = overlay.load(old)
    written = export.told(repository, work.ref(UPSTREAM), "HEAD")
    with commits.scratch(work.root / ".git" / "objects") as bench:
        patches, notes = export.as_patches(bench, work.ref(UPSTREAM), written, ours.files, there)
    for note in notes:
        terminal.note(f"note: {note}")
    changed = {}
    if ours.files:
        options = ("-r", "-z", "--name-only", "--no-renames")
        rows = repository.git("diff-tree", *options, UPSTREAM, "HEAD", "--", *sorted(ours.files)).split("\0")
        changed = {path: (work.root / path).read_bytes() for path in filter(None, rows)}
    before, renames = source.tree(), work.renames()
    fates = tuple(replaced.look(row, before, upstream, renames) for row in ours.replaces)
    odd = [one for one in fates if one.finding in (replaced.Finding.CHANGED, replaced.Finding.GONE)]
    if odd and not reviewed:
        listed = "\n".join(f"  {one.row.path} {one.row.symbol}: {one.finding.value} ({one.row.module})" for one in odd)
        what = f"upstream code that overlay modules replace is another in {name}\n{listed}"
        hint = f"read {place / 'report.html'}, mend the modules in {work.root}, commit, then: "
        raise Findings(what, hint=f"{hint}make port STEP=finish REVIEWED=1 TO={name}")
    files = manifest.measure(upstream, manifest.walk(upstream))
    text = (place / "set.toml").read_text(encoding="utf-8")
    made = {patch.name: patch.data for patch in patches}
    return _end(newset.install(name, old, text, files, made, fates, changed, upstream, staging), there)


def _carried(name: str) -> PatchSet:
    file = folder(name) / FILE
    try:
        return load_set(str(json.loads(file.read_text(encoding="utf-8"))["from"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{file} cannot be read: {error!r}", hint=f"make port STEP=abort TO={name}") from error


def abort(name: str) -> None:
    """Forgets a port; patches/ and overlay/ were never touched. Raises UsageError: a run has written the set."""
    if newset.installed(name, folder(name) / "set"):
        _end(load_set(name), {})
        raise UsageError(f"{paths.set_dir(name)} is written already", hint="remove it and its overlay folder by hand")
    newset.take_back(name, folder(name) / "set")
    disk.remove(folder(name) / FILE)
    shutil.rmtree(folder(name))


def _stopped(name: str, stop: Stop) -> PatchDoesNotApply:
    work = folder(name) / "tree"
    places = (f"{work / path} (not in this release)" if path in stop.lost else f"{work / path}" for path in stop.files)
    rows = "\n".join(f"  {place}" for place in places)
    finish_it = f"make port STEP=finish TO={name}"
    return PatchDoesNotApply(
        f"{stop.subject!r} conflicts with {name}'s upstream\n{rows}",
        patch=stop.subject,
        path=next(iter(stop.files), ""),
        hint=f"resolve it there: git add, git rebase --continue (or --skip), to the end; then {finish_it}",
    )


def _end(written: PatchSet, there: dict[str, bytes]) -> Done:
    place = folder(written.name)
    disk.remove(place / FILE)
    for leftover in ("tree", "upstream", "set"):
        shutil.rmtree(place / leftover, ignore_errors=True)
    kept = tuple(series.read(written.folder))
    return Done(written, kept, tuple(name for name in there if name not in kept), place / "report.html")
