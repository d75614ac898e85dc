# SPDX-License-Identifier: Apache-2.0
"""The series that another is compared with: a set of this repository, a set's folder, or the set in a commit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchset.node.errors import PatchsetError, UsageError
from patchset.plan import plan
from patchset.plan.plan import Plan
from patchset.sets import setfile
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.git import Repository
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source


@contextmanager
def opened(
    asked: str, patch_set: PatchSet, source: Source, terminal: Terminal, *, offline: bool
) -> Iterator[tuple[str, Plan]]:
    """The other series: what it is, in words, and its plan. `asked` is a set's name, its folder, or a ref of this
    repository, tried in this order. `source` is the upstream of what is reviewed, and serves the other series too where
    that has the same pin. Raises UsageError: there is no such series; PatchsetError: it cannot be read or does not
    apply; the message says whose patch it is."""
    with tempfile.TemporaryDirectory(prefix="patchset-against-") as folder:
        scratch = Path(folder)
        label, other = _find(asked, patch_set, scratch)
        if other.ascend.sdist != patch_set.ascend.sdist:
            source = Source(other, offline=offline, terminal=terminal, place=scratch / "pristine")
        try:
            made = plan.follow(plan.load(other), source.read)
        except PatchsetError as error:
            error.message = f"{label}: {error.message}"
            error.hint = "choose another AGAINST, or mend that series"
            raise
        yield label, made


def _find(asked: str, patch_set: PatchSet, scratch: Path) -> tuple[str, PatchSet]:
    if setfile.named(asked):
        found = setfile.load_set(asked)
        return f"set {found.name}", found
    folder = Path(asked).expanduser()
    if (folder / "set.toml").is_file():
        folder = folder.resolve()
        if folder.parent.name != "patches":
            raise UsageError(f"{folder} does not lie in a patches/ folder", hint="name REPOSITORY/patches/SET")
        return f"set {folder}", setfile.read(folder)
    return _at_ref(asked, patch_set.name, scratch)


def _at_ref(ref: str, name: str, scratch: Path) -> tuple[str, PatchSet]:
    """The set as it was in a commit, written into a scratch folder."""
    repository = Repository(paths.repo_root())
    if not repository.folder.exists():
        hint = f"a git ref works where {repository.root} is a git checkout"
        raise UsageError(f"{ref!r} is neither a set in patches/ nor a folder with a set.toml", hint=hint)
    commit = None if ref.startswith("-") else repository.ref(ref)
    if commit is None:
        what = f"{ref!r} is neither a set in patches/, nor a folder with a set.toml, nor a commit of this repository"
        raise UsageError(what, hint="git log --oneline -- patches/ lists the commits that changed a set")
    files = repository.files(commit, f"patches/{name}", "overlay")
    if f"patches/{name}/set.toml" not in files:
        raise UsageError(f"{ref} ({commit[:12]}) has no set {name}", hint="git log --oneline -- patches/ lists others")
    contents = repository.blobs(files.values())
    for path, blob in files.items():
        file = scratch / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents[blob])
    return f"{name} at {ref} ({commit[:12]})", setfile.read(scratch / "patches" / name)
