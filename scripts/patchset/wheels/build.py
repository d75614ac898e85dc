# SPDX-License-Identifier: Apache-2.0
"""One patched wheel, from a published wheel or from a build of the patched tree: pure functions over bytes."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from packaging.version import InvalidVersion, Version

from patchset.node import manifest
from patchset.node.errors import PinMismatch, UsageError, first_of
from patchset.node.verify import entry
from patchset.node.verify.entry import Entry
from patchset.plan.plan import Plan
from patchset.sets.setfile import Artifact
from patchset.wheels import statements, wheel
from patchset.wheels.wheel import Build, Draft, Made, Wheel, dist_info

_VERSION_LINE = re.compile(rb"^Version: [^\r\n]*", re.MULTILINE)
_SHOWN = 10


def local_version(version: str, local: str) -> str:
    """A version with a local label, which satisfies what the version does and sorts after it (PEP 440).

    Raises UsageError where the label is not in its normal form, as installers compare it.

    >>> local_version("0.10.1rc1", "dp.1")
    '0.10.1rc1+dp.1'
    """
    labelled = f"{version}+{local}"
    with suppress(InvalidVersion):
        if str(Version(labelled)) == labelled:
            return labelled
    hint = "use lower-case letters, numbers and dots, as in LOCAL=dp.1"
    raise UsageError(f"{local!r} is no local version label in normal form", hint=hint)


def repack(source: Wheel, worked_out: Plan, upstream: Artifact, version: str) -> Draft:
    """The patched wheel of a published one; entries of files that nothing changes are copied as they lie in it. The
    plan was made from its files; `upstream` is its pin. Raises PinMismatch where the wheel's files are not upstream's;
    UsageError where a file that the set adds is there already."""
    patch_set = worked_out.patch_set
    pinned = patch_set.sources()
    check_package(source, pinned, f"vllm-ascend {patch_set.ascend.version} (upstream.sha256)")
    new = sorted(path for path, change in worked_out.changes.items() if change.before is None)
    if taken := next((path for path in new if path in source.files), None):
        raise UsageError(f"{source.file} has {taken}, which the set adds", hint="give the set's file another name")
    made, data = finish(source, _patched(source, worked_out), worked_out, upstream, version)
    return Draft(made, data, _must_hold(source, worked_out, version))


def finish(
    source: Wheel, entries: Iterable[Entry], worked_out: Plan, upstream: Artifact, version: str
) -> tuple[Made, bytes]:
    """Makes a wheel of `source` and its patched entries: the version, the statements and RECORD. The version is written
    in the file name, the .dist-info folder's name and METADATA, and nowhere else: the package's own `__version__` is
    read at run time, by people and plugins that know upstream's."""
    info = dist_info(worked_out.patch_set, version)
    record, metadata = f"{info}/RECORD", f"{info}/METADATA"
    stamp = b"Version: " + version.encode()  # the first such line is the field, as `wheel.parse` has checked
    packed = [
        one.holding(_VERSION_LINE.sub(stamp, one.data, count=1)) if one.path == metadata else one
        for one in _renamed(entries, source.dist_info, info)
        if one.path != record
    ]
    digests = {one.path: one.sha256 for one in packed if not one.is_folder}
    file = source.file.replace(f"-{worked_out.patch_set.ascend.version}-", f"-{version}-", 1)
    build = Build(worked_out, upstream, version, file, digests)
    members = statements.members(build)
    packed += [entry.new(f"{info}/{path}", members[path]) for path in sorted(members)]
    template = source.files[f"{source.dist_info}/RECORD"].renamed(record)
    rows = wheel.render_record([one for one in (*packed, template) if not one.is_folder], record)
    data = entry.write([*packed, template.holding(rows)])
    return Made(build, members, manifest.sha256(data), len(data), source.field("Requires-Python")), data


def check_package(source: Wheel, expected: Mapping[str, str], name: str) -> None:
    """Raises PinMismatch where a wheel lacks files that `expected` has in the package, or has others in their place."""
    files = source.files
    rows = [
        f"{path}: {'changed' if path in files else 'missing'}"
        for path, sha in expected.items()
        if path.startswith(f"{source.package}/") and (path not in files or files[path].sha256 != sha)
    ]
    if rows:
        shown = "\n    ".join(first_of(rows, _SHOWN))
        found, hint = f"{len(rows)} that differ\n    {shown}", "wheel, sdist and set must be of one release"
        raise PinMismatch(source.file, expected=f"the files of {name}", found=found, hint=hint)


def _patched(source: Wheel, worked_out: Plan) -> Iterator[Entry]:
    """The published entries after patches and overlay; new files come before .dist-info, as the format recommends."""
    package = f"{worked_out.patch_set.package}/"  # an sdist has more
    changes = {path: change for path, change in worked_out.changes.items() if path.startswith(package)}
    new = [
        entry.new(path, change.after, (stat.S_IFREG | (0o755 if change.executable else 0o644)) << 16)
        for path, change in sorted(changes.items(), key=lambda row: row[0])
        if change.before is None and change.after is not None
    ]
    for one in source.entries:
        if one.path.startswith(f"{source.dist_info}/"):
            yield from new
            new = []
        if one.path not in changes:
            yield one
        elif (after := changes[one.path].after) is not None:
            yield one.holding(after)


def _renamed(entries: Iterable[Entry], old: str, new: str) -> Iterator[Entry]:
    for one in entries:
        folder, slash, rest = one.path.partition("/")
        yield one.renamed(f"{new}{slash}{rest}") if folder == old else one


def _must_hold(source: Wheel, worked_out: Plan, version: str) -> dict[str, Entry | str]:
    """What a repacked wheel must have at each path: upstream's entry, or content of a digest that the set records."""
    package = f"{worked_out.patch_set.package}/"
    info = dist_info(worked_out.patch_set, version)
    expected: dict[str, Entry | str] = {one.path: one for one in _renamed(source.entries, source.dist_info, info)}
    for path, row in worked_out.patch_set.touched.items():
        if path.startswith(package):
            expected.pop(path, None)
            expected |= {} if row.patched is None else {path: row.patched}
    return expected


def read_back(draft: Draft, data: bytes) -> None:
    """Reads a written wheel again, and compares it with the entries that were to be written. Raises PinMismatch or
    UsageError where what the disk has is not what it should be."""
    made, build = draft.made, draft.made.build
    found = wheel.parse(build.file, data, package=build.plan.patch_set.package, version=build.version)
    stated = {f"{build.dist_info}/{path}": manifest.sha256(text) for path, text in made.members.items()}
    wanted = {**draft.expected, **stated, f"{build.dist_info}/METADATA": build.files[f"{build.dist_info}/METADATA"]}
    wanted.pop(f"{build.dist_info}/RECORD", None)  # parse has held it to every file
    entries = {one.path: one for one in found.entries if one.path != f"{build.dist_info}/RECORD"}
    for path in sorted(entries.keys() | wanted.keys()):
        want, got = wanted.get(path), entries.get(path)
        if want != (got.sha256 if isinstance(want, str) and got else got):
            should = f"sha256 {want}" if isinstance(want, str) else "upstream's entry" if want else "no such file"
            there, hint = f"sha256 {got.sha256}" if got else "no such file", "the disk or patchset is at fault: "
            hint += "run again, and report it if it stays"
            raise PinMismatch(f"{build.file}: {path}", expected=should, found=there, hint=hint)
