# SPDX-License-Identifier: Apache-2.0
"""The plan: what applying a set does to each file, worked out in a scratch repository before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from patchset.node import manifest
from patchset.node.errors import PatchDoesNotApply, PinMismatch
from patchset.plan import commits
from patchset.sets import overlay, series
from patchset.sets.overlay import Overlay
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet, Touched
from patchset.system import disk


@dataclass(frozen=True)
class Recipe:
    patch_set: PatchSet  # the pins
    patches: tuple[Patch, ...]  # in the order of the series
    overlay: Overlay  # the modules that come before them

    @cached_property
    def series(self) -> str:
        """Digest of the patch files, headers and order included, and of the overlay."""
        parts = {patch.name: patch.sha256 for patch in self.patches}
        parts["series"] = manifest.sha256("".join(f"{name}\n" for name in parts).encode())
        parts["overlay.toml"] = manifest.sha256(self.overlay.toml)
        return manifest.digest(parts | {path: manifest.sha256(data) for path, data in self.overlay.files.items()})

    @cached_property
    def named(self) -> frozenset[str]:
        """Upstream's files that the patches name."""
        return frozenset(path for patch in self.patches for path in patch.named) & self.patch_set.sources().keys()

    @property
    def pinned(self) -> bool:
        """Whether set.toml pins the result of exactly these files; git's reading of them was checked then."""
        return self.series == self.patch_set.series


@dataclass(frozen=True)
class Step:
    """One patch, and the content of each of its files after the patch; None for a deleted file."""

    patch: Patch
    after: Mapping[str, bytes | None]


@dataclass(frozen=True)
class Change:
    """One file before and after the whole set; None where the file does not exist."""

    before: bytes | None
    after: bytes | None
    executable: bool = False

    @property
    def touched(self) -> Touched:
        before = None if self.before is None else manifest.sha256(self.before)
        after = None if self.after is None else manifest.sha256(self.after)
        return Touched(before, after)


@dataclass(frozen=True)
class Plan:
    recipe: Recipe  # what was applied
    steps: tuple[Step, ...]  # one per patch, in the order of the series
    changes: Mapping[str, Change]  # each touched file, before and after
    upstream: Mapping[str, bytes]  # content of each of upstream's files that the patches name

    @property
    def patch_set(self) -> PatchSet:
        return self.recipe.patch_set

    @property
    def overlay(self) -> Overlay:
        return self.recipe.overlay

    @property
    def series(self) -> str:
        return self.recipe.series

    @property
    def touched(self) -> dict[str, Touched]:
        """Digests of each touched file, sorted by path."""
        return {path: self.changes[path].touched for path in sorted(self.changes)}

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


def load(patch_set: PatchSet) -> Recipe:
    """Reads patches/<set> and overlay/; raises as `series.load` and `overlay.load` do."""
    return Recipe(patch_set, series.load(patch_set.folder), overlay.load(patch_set))


def make(patch_set: PatchSet, read: Callable[[str], bytes]) -> Plan:
    """Works the plan of a set out, and checks all that `apply` will trust; `read` gives upstream's bytes of a path.
    Raises PatchDoesNotApply: a patch is malformed, lies or does not fit, or the result does not compile; UsageError,
    PinMismatch: the overlay is not what it says."""
    recipe = load(patch_set)
    overlay.check(recipe.overlay, patch_set.name, read)
    return proven(recipe, read)


def proven(recipe: Recipe, read: Callable[[str], bytes]) -> Plan:
    """The plan of patches, on the disk or not; raises PatchDoesNotApply: one lies, or the result does not compile."""
    made = follow(recipe, read, strict=True)
    check_all_compile(made)
    return made


def follow(recipe: Recipe, read: Callable[[str], bytes], *, strict: bool = False) -> Plan:
    """Lets git apply a recipe in a repository of its own, to the files that its patches name. With `strict` the commits
    must say what the patch files say: see `commits.refuse_lies`. Raises PatchDoesNotApply: git does not apply a patch,
    or a patch makes a file that the overlay makes."""
    patch_set, patches, modules = recipe.patch_set, recipe.patches, recipe.overlay
    before = {path: read(path) for path in sorted(recipe.named)}
    with commits.scratch() as repository:
        repository.stage(before, frozenset(path for patch in patches for path in patch.scripts))
        base = repository.commit("upstream\n", commits.identity(patch_set), None)
        made = commits.apply(repository, base, patches)
        if strict:
            commits.refuse_lies(repository, base, patches, made)
        blobs = commits.contents(repository, made)
    steps = tuple(
        Step(patch, {file.path: blobs.get(file.after) for file in commit.files})
        for patch, commit in zip(patches, made, strict=True)
    )
    now: dict[str, bytes | None] = dict(before)
    for step in steps:
        now.update(step.after)
    for path in modules.files:
        if now.get(path) is not None:
            message = f"{path} is made by a patch and by the overlay"
            raise PatchDoesNotApply(message, patch="overlay", path=path, hint="keep one of the two")
    executable = {file.path: file.executable for commit in made for file in commit.files}
    now |= modules.files
    changes = {
        path: Change(before.get(path), now[path], executable.get(path, False) and before.get(path) is None)
        for path in now
        if before.get(path) != now[path]
    }
    return Plan(recipe, steps, changes, before)


def outcome(recipe: Recipe, read: Callable[[str], bytes]) -> dict[str, tuple[bytes | None, bool]]:
    """The result of a pinned recipe by changed file: its content (None: deleted), and whether it is executable. Nothing
    of it is checked but that git applies the patches: whoever writes these files holds them to set.toml."""
    patches = recipe.patches
    named = sorted({path for patch in patches for path in patch.named})
    with commits.scratch() as repository:
        scripts = frozenset(path for patch in patches for path in patch.scripts)
        repository.stage({path: read(path) for path in recipe.named}, scripts)
        repository.commit_index("upstream\n", commits.NOBODY)
        commits.am(repository, patches)
        files: dict[str, tuple[bytes | None, bool]] = {
            path: (data, False) for path, data in recipe.overlay.files.items()
        }
        return files | {path: disk.read(repository.root / path) for path in named}


def make_pinned(patch_set: PatchSet, read: Callable[[str], bytes]) -> Plan:
    """Works out the plan that set.toml pins; raises as `make` and `check` do. What `pin` has checked need not be
    checked again; where the files are others, it is."""
    recipe = load(patch_set)
    made = follow(recipe, read) if recipe.pinned else make(patch_set, read)
    check(made)
    return made


def check_all_compile(plan: Plan) -> None:
    """Raises PatchDoesNotApply where a Python file does not byte-compile after a patch, or in the overlay."""
    for step in plan.steps:
        for path, data in step.after.items():
            check_compiles(path, data, step.patch.name)
    for path, data in plan.overlay.files.items():
        check_compiles(path, data, "overlay")


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
        what = f"{path} does not compile after {origin}: line {line}: {getattr(error, 'msg', error)}"
        raise PatchDoesNotApply(what, patch=origin, path=path, hint=f"mend {origin}") from error


def check(plan: Plan) -> None:
    """Raises PinMismatch unless the plan gives exactly what set.toml pins."""
    pinned = plan.patch_set
    hint = f"if the series or the overlay was changed on purpose: patchset pin {pinned.name}"
    found = plan.touched
    for path in sorted(found.keys() | pinned.touched.keys()):
        if found.get(path) != pinned.touched.get(path):
            raise PinMismatch(path, expected=_shown(pinned.touched.get(path)), found=_shown(found.get(path)), hint=hint)
    if plan.tree != pinned.tree:
        raise PinMismatch("the resulting tree", expected=pinned.tree or "(not pinned)", found=plan.tree, hint=hint)


def _shown(row: Touched | None) -> str:
    if row is None:
        return "not touched"
    return f"upstream {row.upstream or 'none'}, patched {row.patched or 'none'}"
