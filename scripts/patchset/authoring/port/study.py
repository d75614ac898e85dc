# SPDX-License-Identifier: Apache-2.0
"""The study of a release for a port: the facts that the port starts from."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from patchset.authoring.port import release, replaced
from patchset.authoring.port.rebase import Tree
from patchset.authoring.port.report import Fate, PortReport
from patchset.node import manifest
from patchset.node.errors import UsageError, plural
from patchset.plan import plan
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet, Release
from patchset.system.git import GitError, Repository
from patchset.system.terminal import Terminal
from patchset.upstream import archive, cache
from patchset.upstream.pristine import Source

_MOST = 8  # of upstream's commits that are told of one file


def make(
    old: PatchSet, new: Release, place: Path, name: str, *, terminal: Terminal, offline: bool, clone: Path | None = None
) -> PortReport:
    """Unpacks the vllm-ascend release `new` and rebases the series there to see. `place`, the folder of the unpacked
    release and of the work tree, is made anew; the result is on the branch `name`. From a `clone` of upstream that has
    the commits of both releases it is told what changed a patch's lines. Raises UsageError, PinMismatch, Unavailable,
    PatchDoesNotApply: as reading the set, the release and the cache do."""
    source = Source(old, offline=offline, terminal=terminal)
    made = plan.make_recorded(old, source.read)
    old_tree, new_tree = source.tree(), place / "upstream"
    sdist = cache.fetch(new.sdist, offline=offline, terminal=terminal)
    shutil.rmtree(place, ignore_errors=True)
    archive.unpack(sdist, new_tree)
    said = release.read(new_tree, new.wheels)
    files = manifest.measure(new_tree, manifest.walk(new_tree))
    terminal.step(f"carrying {plural(len(made.steps), 'patch')} from vllm-ascend {old.ascend.version} to {new.version}")
    tree = Tree.make(place / "tree", name, made, old_tree, new_tree)
    carried = tree.assess()
    releases = old.ascend.commit, new.commit
    history = _history(clone, releases) if clone else None
    fates = []
    for patch in made.recipe.patches:
        outcome, stop = carried[patch.header.subject]
        told = {
            path: _commits(history, patch, path, *releases) if history else () for path in (stop.files if stop else ())
        }
        fates.append(Fate(patch, outcome, told, stop.lost if stop else ()))
    renames = tree.renames()
    symbols = tuple(replaced.look(row, old_tree, new_tree, renames) for row in made.overlay.replaces)
    return PortReport(old, new, files, said, tuple(fates), symbols)


def _history(clone: Path, releases: Iterable[str]) -> Repository:
    """A clone of upstream; raises UsageError where it is none, or lacks one of the commits."""
    found = Repository(clone, git_dir=clone / ".git" if (clone / ".git").exists() else clone)
    for commit in releases:
        if not commit or found.ref(commit) is None:
            hint = "HISTORY is a clone of vllm-ascend; COMMIT names the new release's commit"
            raise UsageError(f"{clone} does not have commit {commit or '(none)'} of a release", hint=hint)
    return found


def _commits(history: Repository, patch: Patch, path: str, old: str, new: str) -> tuple[str, ...]:
    """Upstream's commits between two that changed the lines which a patch changes in a file: short ids and subjects."""
    found: dict[str, None] = {}
    for hunk in (hunk for file in patch.lines if file.path == path for hunk in file):
        span = f"{hunk.source_start},+{max(hunk.source_length, 1)}"
        try:
            text = history.git("blame", "--reverse", "-s", "-l", "--abbrev=40", "-L", span, f"{old}..{new}", "--", path)
        except GitError:
            continue  # the file has other lines there: the patch is not the first one to change it
        for last in dict.fromkeys(line.split()[0].lstrip("^") for line in text.splitlines()):
            options = ("--reverse", "--ancestry-path", "--format=%h %s")
            after = history.git("log", *options, f"{last}..{new}", "--", path).splitlines()
            found |= dict.fromkeys(after[:1])
    return tuple(found)[:_MOST]
