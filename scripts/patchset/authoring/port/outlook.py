# SPDX-License-Identifier: Apache-2.0
"""A set against later releases: a forecast of the next port."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.version import Version

from patchset.authoring import document
from patchset.authoring.port import release, study
from patchset.authoring.port.report import PortReport
from patchset.node.errors import UsageError
from patchset.sets.setfile import PatchSet
from patchset.system import lock, paths
from patchset.system.terminal import Terminal
from patchset.upstream import index


def run(patch_set: PatchSet, versions: Sequence[str] | None, *, terminal: Terminal, offline: bool) -> list[PortReport]:
    """A report for each release of vllm-ascend, oldest first: of these, or of every newer one that `newer` finds.
    Offline, sdists come from the cache alone; the index is asked for their names in any case. Raises UsageError: there
    is no newer release; Unavailable: an index does not have one of the versions."""
    if versions is None:
        versions = newer(patch_set.ascend.version, release.newest_first(index.listing(release.ASCEND)))
    if not versions:
        raise UsageError(f"no index has a release newer than {patch_set.ascend.version}", hint="name one: --against")
    place = paths.repo_root() / "build" / "outlook" / patch_set.name
    with lock.hold(place.with_name(f".{place.name}.lock")):
        found = []
        for version in versions:
            new = release.find(release.ASCEND, version)
            one = study.make(patch_set, new, place / version, patch_set.name, terminal=terminal, offline=offline)
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
