# SPDX-License-Identifier: Apache-2.0
"""The plan: what applying a set does to each file, worked out in memory before anything is written."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset import exact, manifest, overlay, series
from patchset.errors import PatchDoesNotApply, PinMismatch
from patchset.setfile import Touched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from patchset.overlay import Overlay
    from patchset.patchfile import Patch
    from patchset.setfile import PatchSet


@dataclass(frozen=True)
class Step:
    """One patch, and the content that each of its files has after it; None where it is gone."""

    patch: Patch
    after: Mapping[str, bytes | None]


@dataclass(frozen=True)
class Change:
    """One file before and after the whole set; None where it is not there."""

    before: bytes | None
    after: bytes | None
    executable: bool = False

    @property
    def touched(self) -> Touched:
        """The digests of both."""
        before = None if self.before is None else manifest.sha256(self.before)
        after = None if self.after is None else manifest.sha256(self.after)
        return Touched(before, after)


@dataclass(frozen=True)
class Plan:
    """Everything that applying a set means.

    Attributes:
        patch_set: whose plan.
        steps: one per patch, in the order of the series.
        overlay: the modules that come last.
        changes: each touched file, before and after.
    """

    patch_set: PatchSet
    steps: tuple[Step, ...]
    overlay: Overlay
    changes: Mapping[str, Change]

    @property
    def touched(self) -> dict[str, Touched]:
        """Digests of each touched file, sorted by path."""
        return {path: self.changes[path].touched for path in sorted(self.changes)}

    @property
    def series(self) -> str:
        """Digest of what the plan was made from: the patch files, headers included, and the overlay."""
        parts = {step.patch.name: step.patch.sha256 for step in self.steps}
        return manifest.digest(parts | {path: manifest.sha256(data) for path, data in self.overlay.files.items()})

    @property
    def tree(self) -> str:
        """Digest of the resulting tree, generated files left out."""
        return manifest.digest(patched_manifest(self.patch_set.sources(), self.touched))


def patched_manifest(sources: manifest.Manifest, touched: Mapping[str, Touched]) -> manifest.Manifest:
    """The manifest of a tree after the touched files have changed."""
    result = dict(sources)
    for path, row in touched.items():
        if row.patched is None:
            result.pop(path, None)
        else:
            result[path] = row.patched
    return result


def make(
    patch_set: PatchSet,
    read: Callable[[str], bytes],
    patches: Iterable[Patch] | None = None,
    *,
    pinned: bool = True,
    compiles: bool = True,
) -> Plan:
    """Works the plan out.

    Args:
        patch_set: what to apply.
        read: gives upstream's bytes of a path of the upstream manifest.
        patches: to take instead of those in the set's folder, in their order.
        pinned: hold the code that the overlay replaces to the digests that it records.
        compiles: byte-compile each file after each patch. What `check` then holds to set.toml need not be, for
            `record` has compiled it.

    Raises:
        PatchDoesNotApply: a patch is malformed or does not fit, or the result does not compile.
        UsageError, PinMismatch: the overlay is not what it says.
    """
    upstream = patch_set.sources()
    now: dict[str, bytes | None] = {}
    before: dict[str, bytes | None] = {}
    executable: dict[str, bool] = {}

    def content(path: str) -> bytes | None:
        if path not in now:
            now[path] = before[path] = read(path) if path in upstream else None
        return now[path]

    steps = []
    for patch in series.load(patch_set.folder) if patches is None else patches:
        for file in patch.files:
            now[file.path] = exact.apply(patch.name, file, content(file.path))
            executable[file.path] = file.executable
            if compiles:
                check_compiles(file.path, now[file.path], patch.name)
        steps.append(Step(patch, {file.path: now[file.path] for file in patch.files}))
    modules = overlay.load(patch_set)
    if pinned:
        overlay.check(modules, patch_set.name, read)
    for path, data in modules.files.items():
        if content(path) is not None:
            message = f"{path} is made by a patch and by the overlay"
            raise PatchDoesNotApply(message, patch="overlay", path=path, hint="keep one of the two")
        if compiles:
            check_compiles(path, data, "overlay")
        now[path] = data
    changes = {
        path: Change(before[path], now[path], executable.get(path, False)) for path in now if before[path] != now[path]
    }
    return Plan(patch_set, tuple(steps), modules, changes)


def make_recorded(patch_set: PatchSet, read: Callable[[str], bytes]) -> Plan:
    """Works out the plan that set.toml records; raises as `make` and `check` do.

    What `record` has compiled need not be compiled again. Where the plan is another one, a patch whose result does not
    compile is named as that.
    """
    made = make(patch_set, read, compiles=False)
    try:
        check(made)
    except PinMismatch:
        make(patch_set, read)
        raise
    return made


def check_compiles(path: str, data: bytes | None, origin: str) -> None:
    """Raises PatchDoesNotApply where a Python file does not byte-compile; nothing is written."""
    if data is None or not path.endswith(".py"):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(data, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        raise PatchDoesNotApply(
            f"{path} does not compile after {origin}: line {line}: {getattr(error, 'msg', error)}",
            patch=origin,
            path=path,
            hint=f"mend {origin}",
        ) from error


def check(plan: Plan) -> None:
    """Raises PinMismatch unless the plan gives exactly what set.toml records."""
    recorded = plan.patch_set
    hint = f"if the series or the overlay was changed on purpose: patchset record {recorded.name}"
    found = plan.touched
    for path in sorted(found.keys() | recorded.touched.keys()):
        if found.get(path) != recorded.touched.get(path):
            raise PinMismatch(
                path, expected=_shown(recorded.touched.get(path)), found=_shown(found.get(path)), hint=hint
            )
    if plan.tree != recorded.tree:
        raise PinMismatch("the resulting tree", expected=recorded.tree or "(not recorded)", found=plan.tree, hint=hint)


def _shown(row: Touched | None) -> str:
    if row is None:
        return "not touched"
    return f"upstream {row.upstream or 'none'}, patched {row.patched or 'none'}"
