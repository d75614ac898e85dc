# SPDX-License-Identifier: Apache-2.0
"""The releases of vLLM and vllm-ascend that an index offers, as a set pins them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from patchset.node.errors import Unavailable, UsageError
from patchset.sets.setfile import Artifact, Release
from patchset.upstream import index

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

VLLM = "vllm"
ASCEND = "vllm-ascend"


def find(project: str, version: str, *, commit: str = "") -> Release:
    """One release: its sdist, its wheels and its day.

    Raises:
        Unavailable: no index lists the project, or lists no sdist of that version, or gives no digest for a file.
    """
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
    """The newest vllm-ascend that is named after a vLLM version: its own digits, or those without the last.

    vllm-ascend 0.10.2rc1 is for vLLM 0.10.2, and 0.10.1rc1 for vLLM 0.10.1.1. A name decides nothing: the release's
    Dockerfile is held against the choice (see `pins`).

    Raises:
        UsageError: none is.
    """
    offered = newest_first(index.listing(ASCEND))
    chosen = choose(vllm, offered)
    if chosen is None:
        raise UsageError(
            f"no vllm-ascend is named after vLLM {vllm}",
            hint=f"name one with --ascend: {', '.join(map(str, offered[:8]))}",
        )
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
