# SPDX-License-Identifier: Apache-2.0
"""The published wheels of a set: from the cache and the index, a wheelhouse, or a single file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from patchset.node.errors import PinMismatch, UsageError
from patchset.node.manifest import MAX_BYTES, sha256
from patchset.node.verify.build import MANIFEST
from patchset.sets.setfile import Artifact, PatchSet
from patchset.system.terminal import Terminal
from patchset.upstream import cache
from patchset.wheels import wheel
from patchset.wheels.wheel import Wheel


@dataclass(frozen=True)
class Given:
    """A published wheel and the pin that it must match."""

    pin: Artifact
    file: Path


def locate(patch_set: PatchSet, upstream: Path | None, *, offline: bool, terminal: Terminal) -> list[Given]:
    """The wheels to repack, in the order of set.toml.

    Args:
        upstream: a wheelhouse or a single wheel to take instead of the index; of a wheelhouse, what it has.

    Raises:
        UsageError: the set pins no wheels, or `upstream` is no such thing.
        PinMismatch: `upstream` has wheels of another version alone, or patched ones.
        Unavailable: a wheel could not be had.
    """
    pins = patch_set.ascend.wheels
    if not pins:
        raise UsageError(f"{patch_set.folder / 'set.toml'} pins no wheels", hint="make wheels FROM=source")
    if upstream is None:
        return [Given(pin, cache.fetch(pin, offline=offline, terminal=terminal)) for pin in pins]
    if upstream.is_file():
        return [Given(_pin_of(patch_set, upstream), upstream)]
    if not upstream.is_dir():
        raise UsageError(f"no such file or folder: {upstream}", hint="UPSTREAM is a wheelhouse or a wheel")
    given = [Given(pin, upstream / pin.file) for pin in pins if (upstream / pin.file).is_file()]
    if not given:
        for file in sorted(upstream.glob(f"{patch_set.package}-*.whl")):
            _pin_of(patch_set, file)  # says what is wrong with it
        raise UsageError(f"{upstream} has none of the set's wheels", hint=f"the set pins {pins[0].file} and its like")
    if missing := [pin.file for pin in pins if pin not in [one.pin for one in given]]:
        terminal.warn(f"{upstream} lacks {len(missing)} of {len(pins)} wheels: {', '.join(missing)}")
    return given


def _pin_of(patch_set: PatchSet, file: Path) -> Artifact:
    """The pin of a wheel that the user gives, by its name."""
    for pin in patch_set.ascend.wheels:
        if pin.file == file.name:
            return pin
    expected = f"a published wheel of vllm-ascend {patch_set.ascend.version}"
    try:
        version = parse_wheel_filename(file.name)[1]
    except InvalidWheelFilename as error:
        raise UsageError(f"{file} is not named as a wheel: {error}", hint=f"UPSTREAM is {expected}") from error
    patched = version.local is not None
    raise PinMismatch(
        str(file),
        expected=expected,
        found=f"version {version}, a patched wheel already" if patched else f"version {version}",
        hint="give the published wheel" if patched else "give the set's release, or the set for this one",
    )


def load(patch_set: PatchSet, given: Given) -> Wheel:
    """Reads a wheel once, and audits the very bytes that its pin was checked against.

    Raises:
        PinMismatch: it is not what the set pins.
        UsageError: it is malformed.
    """
    size = given.file.stat().st_size
    if size > MAX_BYTES:
        raise UsageError(f"{given.file} has {size} bytes; the limit is {MAX_BYTES}", hint="is it the right file?")
    data = given.file.read_bytes()
    if (found := sha256(data)) != given.pin.sha256:
        hint = "give the published wheel, or leave UPSTREAM out to fetch it"
        raise PinMismatch(str(given.file), expected=given.pin.sha256, found=found, hint=hint)
    read = wheel.parse(given.pin.file, data, package=patch_set.package, version=patch_set.ascend.version)
    if f"{read.dist_info}/{MANIFEST}" in read.files:
        raise PinMismatch(
            given.pin.file, expected="a published wheel", found="a wheel that patchset made", hint="mend its pin"
        )
    return read
