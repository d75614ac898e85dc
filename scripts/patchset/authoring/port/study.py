# SPDX-License-Identifier: Apache-2.0
"""The study of a release: the facts that a port starts from; of later releases, a forecast of the next port."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.version import Version

from patchset.authoring import document
from patchset.authoring.port import release, replaced
from patchset.authoring.port.rebase import Tree
from patchset.authoring.port.report import Fate, PortReport
from patchset.node import manifest
from patchset.node.errors import UsageError, plural
from patchset.plan import plan
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet, Release
from patchset.system import lock, paths
from patchset.system.git import GitError, Repository
from patchset.system.terminal import Terminal
from patchset.upstream import archive, cache, index
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
    made = plan.make_pinned(old, source.read)
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


def outlook(old: PatchSet, versions: Sequence[str] | None, *, terminal: Terminal, offline: bool) -> list[PortReport]:
    """A report for each release of vllm-ascend, oldest first: of these, or of every newer one that `newer` finds.
    Offline, sdists come from the cache alone; the index is asked for their names in any case. Raises UsageError: there
    is no newer release; Unavailable: an index does not have one of the versions."""
    if versions is None:
        versions = newer(old.ascend.version, release.newest_first(index.listing(release.ASCEND)))
    if not versions:
        raise UsageError(f"no index has a release newer than {old.ascend.version}", hint="name one: --against")
    place = paths.repo_root() / "build" / "outlook" / old.name
    with lock.hold(place.with_name(f".{place.name}.lock")):
        found = []
        for version in versions:
            new = release.find(release.ASCEND, version)
            one = make(old, new, place / version, old.name, terminal=terminal, offline=offline)
            found.append(one)
        return found


def newer(than: str, offered: Iterable[Version]) -> list[str]:
    """Final releases above a version, oldest first, then the newest pre-release where it is newer than all of them.

    A post-release stands for the release that it mends.

    >>> newer("0.10.2rc1", map(Version, ["0.11.0rc1", "0.11.0", "0.23.0", "0.23.0.post1", "0.9.1"]))
    ['0.11.0', '0.23.0.post1']
    >>> newer("0.23.0", map(Version, ["0.23.0", "0.30.0rc1", "0.30.0rc2"]))
    ['0.30.0rc2']
    """
    above = sorted(one for one in offered if one > Version(than))
    finals = [one for one in above if not one.is_prerelease]
    chosen = [*{one.release: one for one in finals}.values(), *(one for one in above[-1:] if one.is_prerelease)]
    return [str(one) for one in chosen]


def write_into(reports: Sequence[PortReport], file: Path) -> None:
    """Writes them into a document, between its marks for the set; raises UsageError: it has none, or is none."""
    mark = f"outlook: {reports[0].old.name}"
    try:
        text = document.filled(file.read_text(encoding="utf-8"), mark, "\n".join(map(markdown, reports)))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}", hint="name a document of docs/") from error
    except KeyError as error:
        hint = f"put the lines <!-- {mark} --> and <!-- end --> into it"
        raise UsageError(f"{file} has no place for this", hint=hint) from error
    file.write_text(text, encoding="utf-8")


def markdown(one: PortReport) -> str:
    """A report as a table: each patch with its defects and the files that git could not merge, then replaced code."""
    pins = ", ".join(f"{name.replace('_', '-')} {pin.value}" for name, pin in one.pins.rows())
    rows = []
    for fate in one.fates:
        files = [f"{path} (gone)" if path in fate.lost else path for path in fate.files]
        rows.append((fate.patch.name, ", ".join(fate.patch.header.resolves), fate.outcome.value, ", ".join(files)))
    for symbol in one.symbols:
        rows.append((symbol.row.symbol or symbol.row.path, "", symbol.finding.value, symbol.row.path))
    table = document.table(("patch, or code that is replaced", "resolves", "git says", "files"), rows)
    return f"{one.old.name} on vllm-ascend {one.release.version} ({pins}):\n\n{table}"
