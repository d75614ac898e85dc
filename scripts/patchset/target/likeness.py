# SPDX-License-Identifier: Apache-2.0
"""What a modified target looks like: another release or set, other line endings, links."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from patchset.node import manifest
from patchset.node.errors import plural
from patchset.node.manifest import Manifest
from patchset.plan import plan
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths
from patchset.target.assess import Assessment, Found
from patchset.target.locate import Target

_SHARE = 0.99  # of a release's files: a checkout with a few edits is still of that release


def of(report: Assessment, target: Target, patch_set: PatchSet) -> tuple[str, ...]:
    """A line for each thing that explains rows of the report."""
    return (*_of_another_set(target, patch_set), *_in_other_bytes(report, target, patch_set))


def _of_another_set(target: Target, patch_set: PatchSet) -> Iterator[str]:
    releases = []
    for other in [load_set(name) for name in paths.sets() if name != patch_set.name]:
        pristine = other.sources()
        patched = plan.patched_manifest(pristine, other.touched)
        releases.append((other, _covered(target, pristine), _covered(target, patched)))
    found = manifest.measure(target.root, {path for _, *both in releases for files in both for path in files})
    for other, pristine, patched in releases:
        release = f"vllm-ascend {other.ascend.version}, of set {other.name}"
        if _has(found, patched):
            yield f"this is {release}, with the set applied: VERSION={other.name}"
        elif _has(found, pristine):
            yield f"this is {release}: VERSION={other.name}"


def _covered(target: Target, wanted: Manifest) -> Manifest:
    return {path: sha for path, sha in wanted.items() if target.covers(path)}


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
