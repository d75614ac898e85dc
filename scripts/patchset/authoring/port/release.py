# SPDX-License-Identifier: Apache-2.0
"""A release of vLLM or vllm-ascend: what an index offers of it, and the versions that its own files name. A release's
documents disagree now and then (its docs may still name the version before); the Dockerfile builds the images that
people run, so it decides, and requirements.txt has what pip installs into them."""

from __future__ import annotations

import email
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from patchset.node.errors import PinMismatch, Unavailable, UsageError
from patchset.sets.setfile import Artifact, Release
from patchset.upstream import index

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

VLLM = "vllm"
ASCEND = "vllm-ascend"
_VLLM_TAG = re.compile(r"ARG VLLM_TAG=v?(\S+)")
# An image's tag may have the moment of its build behind CANN's version.
_CANN = re.compile(r"FROM \S*cann:(\d+(?:\.\d+)*(?:\.[0-9A-Za-z]+)?)(?:_\d+)?-")
_ARGUMENT = re.compile(r"ARG (\w+)=[\"']?([^\s\"']*)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def find(project: str, version: str, *, commit: str = "") -> Release:
    """Its sdist, its wheels, its day; raises Unavailable: no index lists an sdist, or it gives a file no digest."""
    listing = index.listing(project)
    files = [row for row in listing if row.version == version]
    sdist = next((row for row in files if row.package_type == "sdist"), None)
    if sdist is None:
        offered = ", ".join(map(str, newest_first(listing)[:8]))
        raise Unavailable(f"no index has an sdist of {project} {version}", hint=f"the newest with one: {offered}")
    if bare := [row.filename for row in files if "sha256" not in row.digests]:
        raise Unavailable(f"the index gives no sha256 for {bare[0]}", hint="use an index that does, as PEP 503 asks")
    wheels = sorted((row for row in files if row is not sdist), key=lambda row: _by_python(row.filename))
    first, *others = (Artifact(project, row.filename, row.digests["sha256"]) for row in (sdist, *wheels))
    return Release(version, commit, first, tuple(others), sdist.upload_time.date() if sdist.upload_time else None)


def check_commit(commit: str) -> None:
    """Raises UsageError where a commit is given and is no full id."""
    if commit and not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UsageError(f"{commit!r} is no git commit of 40 hex digits", hint="leave COMMIT out where it is not known")


def newest_first(files: Iterable[DistributionPackage]) -> list[Version]:
    """Versions with an sdist; what is no version of PEP 440 is left out."""
    versions = set()
    for row in (row for row in files if row.package_type == "sdist"):
        with suppress(InvalidVersion):
            versions.add(Version(row.version or ""))
    return sorted(versions, reverse=True)


def ascend_for(vllm: str) -> str:
    """The newest vllm-ascend that is named after a vLLM version: its own digits, or those without the last. vllm-ascend
    0.10.2rc1 is for vLLM 0.10.2, and 0.10.1rc1 for vLLM 0.10.1.1. A name decides nothing: the release's Dockerfile is
    held against the choice (see `check_vllm`). Raises UsageError: none is."""
    offered = newest_first(index.listing(ASCEND))
    chosen = choose(vllm, offered)
    if chosen is None:
        hint = f"name one with --ascend: {', '.join(map(str, offered[:8]))}"
        raise UsageError(f"no vllm-ascend is named after vLLM {vllm}", hint=hint)
    return str(chosen)


def choose(vllm: str, offered: Iterable[Version]) -> Version | None:
    """The newest of the versions that share their three digits with vLLM's.

    >>> str(choose("0.10.1.1", [Version("0.10.1rc1"), Version("0.10.2rc1")]))
    '0.10.1rc1'
    >>> str(choose("0.11.0", [Version("0.11.0rc3"), Version("0.11.0")]))
    '0.11.0'
    """
    digits = Version(vllm).release[:3]
    return max((one for one in offered if one.release[:3] == digits and not one.is_postrelease), default=None)


def _by_python(file: str) -> tuple[int, str]:
    """Wheels in the order of their Python: cp39 before cp310."""
    _, _, _, tags = parse_wheel_filename(file)
    digits = min(tag.interpreter for tag in tags).lstrip("cpy")
    return int(digits or 0), file


@dataclass(frozen=True)
class Pin:
    """One value, and the release's file and line that names it."""

    value: str
    where: str


@dataclass(frozen=True)
class Pins:
    vllm: Pin
    torch: Pin
    torch_npu: Pin
    cann: Pin
    python: Pin

    def rows(self) -> list[tuple[str, Pin]]:
        return list(vars(self).items())


def read(tree: Path, wheels: Iterable[Artifact]) -> Pins:
    """Reads them from an unpacked sdist and its wheels' tags; raises UsageError: a file or line is not there."""
    docker, required = tree / "Dockerfile", tree / "requirements.txt"
    vllm = _line(docker, _VLLM_TAG, "the vLLM that it builds (ARG VLLM_TAG=)")
    cann = _line(docker, _CANN, "on which CANN image it is built (FROM .../cann:)")
    cann = Pin(cann.value.upper(), cann.where)  # as its own releases spell it: 8.2.RC1
    torch, torch_npu = (_required(required, project) for project in ("torch", "torch-npu"))
    return Pins(vllm, torch, torch_npu, cann, _python(tree / "PKG-INFO", wheels))


def check_vllm(pins: Pins, wanted: str, ascend: str) -> None:
    """Raises PinMismatch where the release was made for another vLLM than the set is named after."""
    if pins.vllm.value != wanted:
        what = f"the vLLM of vllm-ascend {ascend} ({pins.vllm.where})"
        hint = "name the vllm-ascend release with --ascend, or port --to the vLLM that this one is for"
        raise PinMismatch(what, expected=wanted, found=pins.vllm.value, hint=hint)


def _line(file: Path, pattern: re.Pattern[str], what: str) -> Pin:
    """The first line of a Dockerfile that the pattern fits, with the build arguments before it at their defaults."""
    arguments: dict[str, str] = {}
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if match := pattern.match(_VARIABLE.sub(lambda one: arguments.get(one[1], one[0]), line)):
            return Pin(match[1], f"{file.name}:{number}")
        if argument := _ARGUMENT.match(line):
            arguments[argument[1]] = argument[2]
    raise UsageError(f"{file} does not say {what}", hint="is it a release of vllm-ascend?")


def _required(file: Path, project: str) -> Pin:
    """The lowest version of a requirement: vllm-ascend asks for torch>=2.7.1 and is built with 2.7.1."""
    for number, line in enumerate(_text(file).splitlines(), start=1):
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue  # an empty line, a comment or an option of pip
        lowest = [one.version for one in requirement.specifier if one.operator in ("==", ">=", "~=")]
        if requirement.name.lower().replace("_", "-") == project and lowest:
            return Pin(min(lowest, key=Version), f"{file.name}:{number}")
    raise UsageError(f"{file} requires no {project} of a certain version", hint="is it a release of vllm-ascend?")


def _python(file: Path, wheels: Iterable[Artifact]) -> Pin:
    """What the metadata asks for, up to the newest Python that a wheel was built for."""
    asked = str(email.message_from_string(_text(file)).get("Requires-Python", ""))
    if not asked:
        raise UsageError(f"{file} has no Requires-Python", hint="is it a release of vllm-ascend?")
    minors = [int(tag.interpreter[3:]) for wheel in wheels for tag in parse_wheel_filename(wheel.file)[3]]
    upper = f",<3.{max(minors) + 1}" if minors else ""
    return Pin(f"{asked}{upper}", "PKG-INFO, wheel tags" if minors else "PKG-INFO")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="is it a release of vllm-ascend?") from error
