# SPDX-License-Identifier: Apache-2.0
"""One patched wheel from one published wheel: pure functions over bytes."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from patchset.errors import PinMismatch, UsageError
from patchset.wheels import entry, statements, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from patchset.plan import Change, Plan
    from patchset.setfile import Artifact
    from patchset.wheels.entry import Entry
    from patchset.wheels.wheel import Wheel

_LOCAL = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
_VERSION_LINE = re.compile(rb"^Version: [^\r\n]*", re.MULTILINE)
_SHOWN = 10


@dataclass(frozen=True)
class Build:
    """One wheel that is being made.

    Attributes:
        plan: what the set does to each file.
        upstream: the pin of what the wheel is made from.
        version: upstream's version with a local label: 0.10.1rc1+dp.1.
        file: its file name.
        files: path -> sha256 of each of its files, but for RECORD and what `statements` adds.
    """

    plan: Plan
    upstream: Artifact
    version: str
    file: str
    files: Mapping[str, str] = field(hash=False)

    @property
    def dist_info(self) -> str:
        """Name of its .dist-info folder."""
        return dist_info(self.plan.patch_set.package, self.version)


def dist_info(package: str, version: str) -> str:
    """Name of a wheel's .dist-info folder."""
    return f"{package}-{version}.dist-info"


def local_version(version: str, local: str) -> str:
    """A version with a local label, in its normal form.

    A local label sorts after the release that it marks and satisfies the same requirements (PEP 440).

    Raises:
        UsageError: the label is not in the normal form of PEP 440.

    >>> local_version("0.10.1rc1", "dp.1")
    '0.10.1rc1+dp.1'
    """
    if not _LOCAL.fullmatch(local):
        hint = "use lower-case letters, digits and dots, as in LOCAL=dp.1"
        raise UsageError(f"{local!r} is no local version label", hint=hint)
    return f"{version}+{local}"


def repack(source: Wheel, plan: Plan, upstream: Artifact, version: str) -> tuple[Build, bytes]:
    """The patched wheel: what it is, and its bytes.

    Entries of files that nothing changes are copied as they lie in the archive. The version is written in the file
    name, the .dist-info folder's name and METADATA, and nowhere else: vllm-ascend compares the `__version__` of
    vLLM at run time, and plugins may compare its own.

    Args:
        source: the audited wheel.
        plan: made from the bytes of its files.
        upstream: its pin.
        version: the one that the patched wheel gets.

    Raises:
        PinMismatch: the wheel's files are not upstream's.
        UsageError: a file that the set adds is there already.
    """
    _check_sources(source, plan)
    entries = list(_patched(source, plan, version))
    build = Build(
        plan,
        upstream,
        version,
        source.file.replace(plan.patch_set.ascend.version, version, 1),
        {one.path: one.sha256 for one in entries if not one.is_folder},
    )
    stated = statements.members(build)
    entries += [entry.new(f"{build.dist_info}/{path}", stated[path]) for path in sorted(stated)]
    record = f"{build.dist_info}/RECORD"
    rows = [*wheel.record_rows((one for one in entries if not one.is_folder), record), [record, "", ""]]
    template = source.files[f"{source.dist_info}/RECORD"].renamed(record)
    return build, entry.write([*entries, template.holding(wheel.render_record(rows))])


def _renamed(source: Wheel, plan: Plan, version: str) -> Iterator[Entry]:
    """Upstream's entries, with the new name of the .dist-info folder."""
    for one in source.entries:
        folder, slash, rest = one.path.partition("/")
        known = folder == source.dist_info
        yield one.renamed(f"{dist_info(plan.patch_set.package, version)}{slash}{rest}") if known else one


def _patched(source: Wheel, plan: Plan, version: str) -> Iterator[Entry]:
    """The entries after patches, overlay and the new version; RECORD left out."""
    info = dist_info(plan.patch_set.package, version)
    changes = _package_changes(plan)
    added = sorted(path for path, change in changes.items() if change.before is None and change.after is not None)
    for one in _renamed(source, plan, version):
        if one.path.startswith(f"{info}/"):
            while added:  # package files come before .dist-info, as the format recommends
                yield _added(plan, added.pop(0))
        if one.path == f"{info}/METADATA":
            yield one.holding(_restamped(one.data, version))
        elif one.path not in changes and one.path != f"{info}/RECORD":
            yield one
        elif one.path in changes and (after := changes[one.path].after) is not None:
            yield one.holding(after)


def _package_changes(plan: Plan) -> dict[str, Change]:
    """What changes in a wheel: an sdist has more than the package."""
    return {path: change for path, change in plan.changes.items() if path.startswith(f"{plan.patch_set.package}/")}


def _added(plan: Plan, path: str) -> Entry:
    change = plan.changes[path]
    assert change.after is not None
    return entry.new(path, change.after, (stat.S_IFREG | (0o755 if change.executable else 0o644)) << 16)


def _restamped(metadata: bytes, version: str) -> bytes:
    """METADATA with another version; the first such line is the field, as `wheel.parse` has checked."""
    return _VERSION_LINE.sub(b"Version: " + version.encode(), metadata, count=1)


def _check_sources(source: Wheel, plan: Plan) -> None:
    """Holds the wheel's package to the pinned sources, so that one set serves the sdist and every wheel."""
    patch_set = plan.patch_set
    pinned = {path: sha for path, sha in patch_set.sources().items() if path.startswith(f"{patch_set.package}/")}
    files = source.files
    rows = [
        f"{path}: {'changed' if path in files else 'missing'}"
        for path, sha in pinned.items()
        if path not in files or files[path].sha256 != sha
    ]
    if rows:
        shown = "\n    ".join(rows[:_SHOWN] + ([f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []))
        raise PinMismatch(
            source.file,
            expected=f"the files of vllm-ascend {patch_set.ascend.version} (upstream.sha256)",
            found=f"{len(rows)} that differ\n    {shown}",
            hint="the set must pin wheels of the release that its sdist is",
        )
    if taken := sorted(path for path, change in plan.changes.items() if change.before is None and path in files):
        raise UsageError(f"{source.file} has {taken[0]}, which the set adds", hint="give the set's file another name")


def read_back(build: Build, source: Wheel, data: bytes) -> None:
    """Audits a wheel that was made, and holds it to the plan and to what it was made from.

    Raises:
        PinMismatch, UsageError: it does not hold what it should.
    """
    plan = build.plan
    made = wheel.parse(build.file, data, package=plan.patch_set.package, version=build.version)
    kept = {one.path: one for one in _renamed(source, plan, build.version)}
    written = {f"{build.dist_info}/{path}" for path in ("METADATA", "RECORD", *statements.members(build))}
    touched = plan.touched
    found = {one.path: one for one in made.entries}
    for path in sorted(found.keys() | kept.keys() | touched.keys()):
        if path in written:
            continue
        if path in touched and path in _package_changes(plan):
            right = (found[path].sha256 if path in found else None) == touched[path].patched
        else:
            right = found.get(path) == kept.get(path)
        if not right:
            raise PinMismatch(
                f"{build.file}: {path}",
                expected="the file as the plan has it" if path in touched else "upstream's entry, byte for byte",
                found="another" if path in found else "no such file",
                hint="this is a fault of patchset, not yours: please report it",
            )
