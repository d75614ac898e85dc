# SPDX-License-Identifier: Apache-2.0
"""Patched wheels of the published ones: of the index, a wheelhouse or a single file, each read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from patchset.node.errors import PinMismatch, UsageError, plural
from patchset.node.manifest import MAX_BYTES, digest, sha256
from patchset.node.verify.build import MANIFEST
from patchset.node.verify.entry import Entry
from patchset.plan import plan
from patchset.plan.plan import Plan
from patchset.sets.setfile import Artifact, PatchSet
from patchset.system.terminal import Terminal
from patchset.upstream import cache
from patchset.upstream.pristine import Source
from patchset.wheels import build, wheel
from patchset.wheels.wheel import Draft, Wheel


def drafts(
    patch_set: PatchSet, version: str, *, upstream: Path | None, offline: bool, terminal: Terminal
) -> Iterator[Draft]:
    """The patched wheels, in the order of set.toml, from the index or from `upstream`, a wheelhouse or one wheel."""
    sources = patch_set.sources()
    elsewhere = Source(patch_set, offline=offline, terminal=terminal)
    plans: dict[str, Plan] = {}  # one for all wheels whose sources are the same
    given = _locate(patch_set, upstream, offline=offline, terminal=terminal)
    label = f"patching {plural(len(given), 'wheel')} of vllm-ascend {patch_set.ascend.version}"
    with terminal.progress(label, len(given)) as advance:
        for pin, file in given:
            published = _load(patch_set, pin, file)
            files = published.files
            key = digest({path: files[path].sha256 for path in sources.keys() & files.keys()})
            if key not in plans:
                plans[key] = _plan(patch_set, files, elsewhere)
            yield build.repack(published, plans[key], pin, version)
            advance(1)


def _plan(patch_set: PatchSet, files: Mapping[str, Entry], elsewhere: Source) -> Plan:
    """The plan for a wheel's files, and for upstream's others: an sdist has more than the package."""
    return plan.make_pinned(patch_set, lambda path: files[path].data if path in files else elsewhere.read(path))


def _locate(
    patch_set: PatchSet, upstream: Path | None, *, offline: bool, terminal: Terminal
) -> list[tuple[Artifact, Path]]:
    """The wheels to repack and their pins, in the order of set.toml; of a wheelhouse, what it has. Raises UsageError
    where the set pins no wheels, or `upstream` is no such thing; PinMismatch where `upstream` has wheels of another
    version alone, or patched ones; Unavailable where a wheel could not be had."""
    pins = patch_set.ascend.wheels
    if not pins:
        raise UsageError(f"{patch_set.folder / 'set.toml'} pins no wheels", hint="make wheels FROM=source")
    if upstream is None:
        return [(pin, cache.fetch(pin, offline=offline, terminal=terminal)) for pin in pins]
    if upstream.is_file():
        return [(_pin_of(patch_set, upstream), upstream)]
    if not upstream.is_dir():
        raise UsageError(f"no such file or folder: {upstream}", hint="UPSTREAM is a wheelhouse or a wheel")
    given = [(pin, upstream / pin.file) for pin in pins if (upstream / pin.file).is_file()]
    if not given:
        for file in sorted(upstream.glob(f"{patch_set.package}-*.whl")):
            _pin_of(patch_set, file)  # says what is wrong with it
        raise UsageError(f"{upstream} has none of the set's wheels", hint=f"the set pins {pins[0].file} and its like")
    if missing := [pin.file for pin in pins if (pin, upstream / pin.file) not in given]:
        terminal.warn(f"{upstream} lacks {len(missing)} of {len(pins)} wheels: {', '.join(missing)}")
    return given


def _pin_of(patch_set: PatchSet, file: Path) -> Artifact:
    if pin := next((pin for pin in patch_set.ascend.wheels if pin.file == file.name), None):
        return pin
    expected = f"a published wheel of vllm-ascend {patch_set.ascend.version}"
    try:
        version = parse_wheel_filename(file.name)[1]
    except InvalidWheelFilename as error:
        raise UsageError(f"{file} is not named as a wheel: {error}", hint=f"UPSTREAM is {expected}") from error
    found, hint = f"version {version}", "give the set's release, or the set for this one"
    if version.local is not None:
        found, hint = f"{found}, a patched wheel already", "give the published wheel"
    raise PinMismatch(str(file), expected=expected, found=found, hint=hint)


def _load(patch_set: PatchSet, pin: Artifact, file: Path) -> Wheel:
    """Reads a wheel once, and audits the very bytes that its pin was checked against."""
    if (size := file.stat().st_size) > MAX_BYTES:
        raise UsageError(f"{file} has {size} bytes; the limit is {MAX_BYTES}", hint="is it the right file?")
    data = file.read_bytes()
    if (found := sha256(data)) != pin.sha256:
        hint = "give the published wheel, or leave UPSTREAM out to fetch it"
        raise PinMismatch(str(file), expected=pin.sha256, found=found, hint=hint)
    read = wheel.parse(pin.file, data, package=patch_set.package, version=patch_set.ascend.version)
    if f"{read.dist_info}/{MANIFEST}" in read.files:
        found = "a wheel that patchset made"
        raise PinMismatch(pin.file, expected="a published wheel", found=found, hint="mend its pin")
    return read
