# SPDX-License-Identifier: Apache-2.0
"""Upstream's source: fetched or given, and in each case verified against the set's pins."""

from __future__ import annotations

import ast
import shutil
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from patchset.node import manifest
from patchset.node.errors import PinMismatch, UsageError, first_of
from patchset.sets.setfile import PatchSet
from patchset.system import lock, paths
from patchset.system.state import Store
from patchset.system.terminal import Terminal
from patchset.upstream import cache
from patchset.upstream.archive import unpack

_SHOWN = 10


@dataclass
class Source:
    """Upstream's bytes of single files, from the nearest place that has them, each checked against the pins. Raises as
    `check_given`, whether what was given is needed or not."""

    patch_set: PatchSet
    _: KW_ONLY
    offline: bool  # use the cache alone
    terminal: Terminal
    given: Path | None = None  # an sdist, a directory or a git checkout to take instead of the download
    # A tree and kept originals to look at first: a tree that is pristine needs no network.
    root: Path | None = None
    store: Store | None = None
    place: Path | None = None  # where a whole tree is made if it is needed; build/<set>/pristine by default
    _tree: Path | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.given:
            check_given(self.patch_set, self.given)

    def read(self, path: str) -> bytes:
        """Upstream's bytes of a file; raises PinMismatch, Unavailable, UsageError: it could not be had as pinned."""
        wanted = self.patch_set.upstream_manifest()[path]
        if self.root:
            file = self.root / path
            if file.is_file() and manifest.sha256(data := file.read_bytes()) == wanted:
                return data
        if self.store and (kept := self.store.get(wanted)) is not None:
            return kept
        return (self.tree() / path).read_bytes()

    def tree(self) -> Path:
        """A whole tree, made and verified once a run."""
        if self._tree is None:
            place = self.place or paths.pristine_dir(self.patch_set.name)
            whole = self.given is None
            materialize(
                self.patch_set, place, upstream=self.given, offline=self.offline, whole=whole, terminal=self.terminal
            )
            self._tree = place
        return self._tree


def materialize(
    patch_set: PatchSet,
    dest: Path,
    *,
    upstream: Path | None = None,
    offline: bool = False,
    whole: bool = False,
    terminal: Terminal | None = None,
) -> None:
    """Makes `dest` the verified, unpatched upstream tree; does nothing where it already is. The tool owns `dest`:
    whatever else is there is replaced. `upstream` is an sdist, a directory or a git checkout to take instead of the
    download. With `whole` an existing `dest` must also have the files that the sdist's build wrote. Raises UsageError:
    `upstream` is no such thing; PinMismatch: a file differs from upstream.sha256; the message names the files;
    Unavailable: the sdist could not be had."""
    with lock.wait(dest.with_name(f".{dest.name}.lock")):
        if not dest.is_dir() or _differing(patch_set, dest, manifest.walk(dest), whole=whole):
            _make(patch_set, dest, upstream=upstream, offline=offline, terminal=terminal)


def _make(patch_set: PatchSet, dest: Path, *, upstream: Path | None, offline: bool, terminal: Terminal | None) -> None:
    staging = dest.with_name(f".{dest.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        if upstream is None:
            unpack(cache.fetch(patch_set.ascend.sdist, offline=offline, terminal=terminal), staging)
        elif upstream.is_dir():
            _copy(patch_set, upstream, staging)
            pinned = patch_set.upstream_manifest().get(f"{patch_set.package}.egg-info/entry_points.txt")
            _restore_entry_points(staging, patch_set.package, pinned)
        else:
            check_given(patch_set, upstream)
            unpack(upstream, staging)
        _verify(patch_set, staging, manifest.walk(staging), f"{upstream or patch_set.ascend.sdist.file}")
        if dest.exists():
            shutil.rmtree(dest)
        staging.rename(dest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_given(patch_set: PatchSet, upstream: Path) -> None:
    """Checks an sdist, directory or git checkout that the user gives, whether it is needed or not. Raises UsageError:
    there is no such file or directory; PinMismatch: it is not the release that the set pins; the message names the
    files that differ."""
    if upstream.is_dir():
        _verify(patch_set, upstream, [], str(upstream))
    elif upstream.is_file():
        hint = f"give the sdist of vllm-ascend {patch_set.ascend.version}"
        cache.check(upstream, patch_set.ascend.sdist, hint=hint)
    else:
        hint = "UPSTREAM is an sdist, a directory or a git checkout"
        raise UsageError(f"no such file or directory: {upstream}", hint=hint)


def _copy(patch_set: PatchSet, source: Path, dest: Path) -> None:
    """Copies the files that upstream has; what else lies in a directory or checkout stays behind."""
    for path in patch_set.upstream_manifest():
        file = source / path
        if file.is_symlink() or not file.is_file():
            continue
        copy = dest / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    dest.mkdir(parents=True, exist_ok=True)


def _differing(patch_set: PatchSet, tree: Path, present: list[str], *, whole: bool = False) -> list[str]:
    """Files of a pristine tree that are missing, changed or too many, each with which of it."""
    expected = patch_set.upstream_manifest()
    found = manifest.measure(tree, expected)
    rows = [f"{path}: not upstream's" for path in present if path not in expected]
    for path, sha in expected.items():
        if found.get(path) != sha and (whole or path not in patch_set.generated):
            rows.append(f"{path}: {'changed' if path in found else 'missing'}")
    return sorted(rows)


def _verify(patch_set: PatchSet, tree: Path, present: list[str], name: str) -> None:
    if rows := _differing(patch_set, tree, present):
        expected = f"vllm-ascend {patch_set.ascend.version}, file by file (upstream.sha256)"
        found = f"{len(rows)} files that differ\n    " + "\n    ".join(first_of(rows, _SHOWN))
        hint = f"check out tag v{patch_set.ascend.version} without changes, or leave UPSTREAM out to fetch it"
        raise PinMismatch(name, expected=expected, found=found, hint=hint)


def entry_points(setup_py: str) -> str:
    """entry_points.txt as the sdist's build writes it, from the literal of setup.py; empty where there is none.

    >>> print(entry_points("setup(entry_points={'b': ['x = p:x'], 'a': ['z = p:z', 'y = p:y']})"), end="")
    [a]
    y = p:y
    z = p:z
    <BLANKLINE>
    [b]
    x = p:x
    """
    for node in ast.walk(ast.parse(setup_py)):
        if isinstance(node, ast.keyword) and node.arg == "entry_points":
            groups = ast.literal_eval(node.value)
            return "\n".join(
                f"[{group}]\n" + "".join(f"{row}\n" for row in sorted(groups[group])) for group in sorted(groups)
            )
    return ""


def _restore_entry_points(tree: Path, package: str, wanted: str | None) -> None:
    """Writes <package>.egg-info/entry_points.txt where the copy of a checkout lacks it, if its sha256 is the wanted.
    Without it vLLM does not find the plugin."""
    file = tree / f"{package}.egg-info" / "entry_points.txt"
    setup_py = tree / "setup.py"
    if wanted is None or file.exists() or not setup_py.is_file():
        return
    try:
        data = entry_points(setup_py.read_text(encoding="utf-8")).encode()
    except (SyntaxError, ValueError, TypeError):  # it is made otherwise, or no Python
        return
    if manifest.sha256(data) == wanted:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
