# SPDX-License-Identifier: Apache-2.0
"""The state of a target, from its bytes: pristine, applied, partial or modified, and which file says so. Recorded
digests decide. A patch that would reverse cleanly proves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from patchset.node import manifest
from patchset.node.errors import plural
from patchset.node.manifest import Manifest
from patchset.plan import history, plan
from patchset.plan.history import Authored
from patchset.sets.setfile import PatchSet, Touched, load_set
from patchset.system import disk, paths
from patchset.system.state import Installed, Journal, Store
from patchset.target.locate import Kind, Target

_CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")
_DERIVED_FOLDERS = (".git", *_CACHES, "build", "dist", "kernel_meta")
_DERIVED_SUFFIXES = (".pyc", ".pyo", ".so", ".o", ".a")
_SHARE = 0.99  # of a release's files: a checkout with a few edits is still of that release


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
    sources = target.covered(patch_set.sources())
    touched = {path: row for path, row in patch_set.touched.items() if target.covers(path)}
    earlier = dict(installed.files) if installed else {}
    if installed and installed.set != patch_set.name:  # what is gone of its own went with its release
        ours = sources.keys() | touched.keys()
        earlier = {path: row for path, row in earlier.items() if path in ours or (target.root / path).is_file()}
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


def looks_like(report: Assessment, target: Target, patch_set: PatchSet) -> tuple[str, ...]:
    """A line for each thing that explains rows of the report."""
    return (*_of_another_set(target, patch_set), *_in_other_bytes(report, target, patch_set))


def _of_another_set(target: Target, patch_set: PatchSet) -> Iterator[str]:
    releases = []
    for other in [load_set(name) for name in paths.sets() if name != patch_set.name]:
        pristine = other.sources()
        patched = plan.patched_manifest(pristine, other.touched)
        releases.append((other, target.covered(pristine), target.covered(patched)))
    found = manifest.measure(target.root, {path for _, *both in releases for files in both for path in files})
    for other, pristine, patched in releases:
        release = f"vllm-ascend {other.ascend.version}, of set {other.name}"
        if _has(found, patched):
            yield f"this is {release}, with the set applied: VERSION={other.name}"
        elif _has(found, pristine):
            yield f"this is {release}: VERSION={other.name}"


def _has(found: Manifest, wanted: Manifest) -> bool:
    return bool(wanted) and sum(found.get(path) == sha for path, sha in wanted.items()) >= _SHARE * len(wanted)


def _in_other_bytes(report: Assessment, target: Target, patch_set: PatchSet) -> Iterator[str]:
    sources = patch_set.sources()
    changed = [target.root / row.path for row in report.rows if row.found in (Found.CHANGED, Found.EXTRA)]
    links = [file for file in changed if file.is_symlink()]
    if links:
        yield f"links, not files: {len(links)}, {links[0].relative_to(target.root)} among them"
    ends = 0
    for file in changed:
        with suppress(OSError):
            unix = manifest.sha256(file.read_bytes().replace(b"\r\n", b"\n"))
            ends += file not in links and unix == sources.get(file.relative_to(target.root).as_posix())
    if ends:
        mend = "git config core.autocrlf false, then check out anew"
        yield f"only line endings differ in {plural(ends, 'file')} ({mend})"
