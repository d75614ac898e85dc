# SPDX-License-Identifier: Apache-2.0
"""The state of a target, from its bytes: pristine, applied, partial or modified, and which file says so.

Recorded digests decide. A patch that would reverse cleanly proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from patchset.node import manifest
from patchset.plan import history
from patchset.plan.history import Authored
from patchset.sets.setfile import PatchSet, Touched
from patchset.system import disk
from patchset.system.state import Installed, Journal, Store
from patchset.target.locate import Kind, Target

_CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")
_DERIVED_FOLDERS = (".git", *_CACHES, "build", "dist", "kernel_meta")
_DERIVED_SUFFIXES = (".pyc", ".pyo", ".so", ".o", ".a")


class State(Enum):
    ABSENT = "absent"
    PRISTINE = "pristine"
    APPLIED = "applied"
    PARTIAL = "partial"
    MODIFIED = "modified"


class Found(Enum):
    UPSTREAM = "as upstream, not patched"
    PATCHED = "patched"
    EARLIER = "patched by an earlier version of the set"
    CHANGED = "neither upstream's nor the set's"
    MISSING = "missing"
    EXTRA = "a file of another origin where the set puts its own"


@dataclass(frozen=True)
class Row:
    """One file that differs from `upstream`, where it alone has a say, or from what the set or upstream expects."""

    path: str
    found: Found
    differs_from: str


@dataclass(frozen=True)
class Assessment:
    state: State  # the sum of it
    files: Mapping[str, Found]  # what each touched file is
    rows: tuple[Row, ...]  # the files that keep the target from being pristine or applied
    found: Mapping[str, str]  # sha256 of each file that upstream, the set or the state knows and that is there
    untracked: tuple[str, ...]  # files that neither upstream nor the set knows; they change nothing
    journal: Journal | None  # what a run that was cut off was doing, or None
    installed: Installed | None  # what state.json says, or None
    digest: str  # of the files that upstream and the set know; the set's tree digest where a whole tree is applied
    authored: Authored | None = None  # what an author has committed in a build tree and not exported, or has under way

    @property
    def clean(self) -> bool:
        """Whether the target is wholly upstream's or wholly patched, and nobody's commits are in it."""
        return self.state in (State.PRISTINE, State.APPLIED) and not self.authored


def assess(patch_set: PatchSet, target: Target, store: Store) -> Assessment:
    """Reads a target and the state beside it; changes nothing."""
    journal, installed = store.journal(), store.installed()
    if not target.root.is_dir():
        return Assessment(State.ABSENT, {}, (), {}, (), journal, installed, "")
    sources = {path: sha for path, sha in patch_set.sources().items() if target.covers(path)}
    touched = {path: row for path, row in patch_set.touched.items() if target.covers(path)}
    earlier = dict(installed.files) if installed else {}
    if journal:
        earlier |= {path: row for path, row in journal.files.items() if path not in earlier}
    record = {target.record} if target.record else set()
    found = manifest.measure(target.root, sources.keys() | touched.keys() | earlier.keys() | record)
    files: dict[str, Found] = {}
    rows: list[Row] = []
    for path in sorted(sources.keys() | touched.keys() | earlier.keys()):
        known = touched.get(path)
        upstream = sources.get(path) if path in sources or path not in earlier else earlier[path].before
        now = found.get(path)
        if known is None and path not in earlier:
            if now != upstream:
                rows.append(Row(path, Found.MISSING if now is None else Found.CHANGED, "upstream"))
            continue
        past = earlier.get(path)
        versions = {past.before, past.after} if past else set()
        kind = _kind(now, upstream, known, versions)
        if known is None and path not in sources and past:
            kind = Found.PATCHED if now == past.after else kind  # the installation's RECORD
        files[path] = kind
        if kind in (Found.CHANGED, Found.MISSING, Found.EXTRA):
            rows.append(Row(path, kind, "upstream" if known is None else "upstream and the set"))
    if target.record in files and all(kind is Found.UPSTREAM for path, kind in files.items() if path != target.record):
        files[target.record] = Found.UPSTREAM  # nothing is patched, so whoever wrote RECORD was right
        rows = [row for row in rows if row.path != target.record]
    state = _state(files, rows, journal, installed)
    if state is State.PARTIAL:
        rows += [Row(path, kind, "the set") for path, kind in files.items() if kind is not Found.PATCHED]
    present = {path: sha for path, sha in found.items() if path in sources or path in touched}
    untracked = _untracked(target, patch_set, found)
    digest = manifest.digest(present)
    authored = history.authored(target.root, patch_set.name) if target.kind is Kind.BUILD else None
    return Assessment(state, files, tuple(rows), found, untracked, journal, installed, digest, authored)


def _kind(now: str | None, upstream: str | None, known: Touched | None, earlier: set[str | None]) -> Found:
    if known and now == known.patched:
        return Found.PATCHED
    if now == upstream:
        return Found.UPSTREAM
    if now in earlier:
        return Found.EARLIER
    if now is None:
        return Found.MISSING
    return Found.CHANGED if upstream else Found.EXTRA


def _state(files: Mapping[str, Found], rows: list[Row], journal: Journal | None, installed: Installed | None) -> State:
    if rows:
        return State.MODIFIED
    if journal:
        return State.PARTIAL
    kinds = set(files.values())
    if not kinds:
        return State.APPLIED if installed else State.PRISTINE
    if kinds == {Found.PATCHED}:
        return State.APPLIED
    return State.PRISTINE if kinds == {Found.UPSTREAM} else State.PARTIAL


def _untracked(target: Target, patch_set: PatchSet, known: Mapping[str, str]) -> tuple[str, ...]:
    top = target.root / target.prefix
    walked = manifest.walk(top, skip=_DERIVED_FOLDERS)
    return tuple(
        path
        for path in (f"{target.prefix}{path}" for path in walked)
        if path not in known
        and path != ".git"
        and path not in patch_set.generated
        and not path.endswith(_DERIVED_SUFFIXES)
        and ".egg-info/" not in path
        and path != f"{patch_set.package}/_build_info.py"
        and not disk.is_temporary(path)
    )
