# SPDX-License-Identifier: Apache-2.0
"""The machine: programs, disk, cache, index."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from patchset.node.errors import PatchsetError
from patchset.proof import runtime
from patchset.proof.doctor import Finding, Verdict
from patchset.sets.setfile import Artifact, PatchSet
from patchset.system import paths
from patchset.system.git import OLDEST
from patchset.upstream import cache, index

TOOL_PYTHON = ">=3.11"
# Measured on set v0.10.1.1, x86_64: a patched and a pristine tree; the runtime in build/, which shares its files with
# uv's cache where both lie on one disk, and what the runtime downloads.
TREES_BYTES = 100_000_000
RUNTIME_BYTES = 5_900_000_000
RUNTIME_DOWNLOADS_BYTES = 3_200_000_000


def look(patch_set: PatchSet, *, offline: bool) -> Iterator[Finding]:
    """Every finding about the machine; nothing is installed or changed, and offline the index is not asked."""
    yield python()
    yield git()
    yield smoke_python()
    yield disk(paths.build_dir(patch_set.name))
    yield smoke_runtime()
    yield download_cache(patch_set)
    if not offline:
        yield package_index(patch_set.ascend.sdist)
    yield browser()


def python() -> Finding:
    """The Python that runs this tool."""
    return _version("Python", platform.python_version(), TOOL_PYTHON, "everything", "make PYTHON=python3.11 ...")


def git() -> Finding:
    """git on PATH."""
    said = _output("git", "--version")
    found = re.search(r"\d+(\.\d+)+", said)
    advice = f"install git {OLDEST} or newer"
    return _version("git", found.group() if found else said, f">={OLDEST}", "everything", advice)


def smoke_python() -> Finding:
    """The Python that the smoke runtime is made with."""
    need = "smoke, defects, survey"
    try:
        found = runtime.base_python()
    except PatchsetError as error:
        return Finding("Python of the smoke tests", Verdict.LACKS, error.message, need, error.hint)
    return Finding("Python of the smoke tests", Verdict.OK, found, need)


def disk(build: Path) -> Finding:
    """Free bytes where build/ lies, or will."""
    place = next(folder for folder in (build, *build.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free at {place}"
    made = (paths.repo_root() / "build" / "runtime" / "venv").is_dir()
    for need, size in (("apply", TREES_BYTES), ("smoke and what builds on it", 0 if made else RUNTIME_BYTES)):
        if free < size:
            advice = f"free {(size - free) / 1e9:.1f} GB more" + (", or use SMOKE=0" if need != "apply" else "")
            return Finding("disk", Verdict.LACKS, found, need, advice)
    return Finding("disk", Verdict.OK, found, "everything")


def smoke_runtime() -> Finding:
    """What the runtime of the smoke tests takes on disk, or will."""
    folder, need = paths.repo_root() / "build" / "runtime", "smoke, defects, survey"
    if not (folder / "venv").is_dir():
        room, downloads = RUNTIME_BYTES / 1e9, RUNTIME_DOWNLOADS_BYTES / 1e9
        found = f"not made: {room:.1f} GB in build/ and {downloads:.1f} GB of downloads"
        advice = "2.0 and 0.6 GB where pip's index or find-links has torch without CUDA (requirements/torch-cpu.txt)"
        return Finding("smoke runtime", Verdict.ABSENT, found, need, advice)
    size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
    return Finding("smoke runtime", Verdict.OK, f"{size / 1e9:.1f} GB in {folder}", need)


def download_cache(patch_set: PatchSet) -> Finding:
    """Whether the cache can be written, and which of the set's downloads it holds, verified."""
    folder = paths.cache_dir()
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    advice = f"make {place} writable, or set PATCHSET_CACHE to a folder that is"
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding("download cache", Verdict.LACKS, f"{place}: {error.strerror}", "everything", advice)
    pins = (patch_set.ascend.sdist, patch_set.vllm.sdist, *patch_set.ascend.wheels)
    held = [pin for pin in pins if _held(pin)]
    found = f"{folder}: {len(held)} of {len(pins)} files of {patch_set.name}"
    return Finding("download cache", Verdict.OK, found, "OFFLINE=1")


def package_index(pin: Artifact) -> Finding:
    """Whether a configured index lists the set's sdist."""
    try:
        where = index.find(pin)
    except PatchsetError as error:
        advice = "check pip's settings (pip config list); or give UPSTREAM=path, or OFFLINE=1 with a filled cache"
        return Finding("package index", Verdict.LACKS, error.message.replace("\n  ", "; "), "apply, wheels", advice)
    return Finding("package index", Verdict.OK, f"{where} has {pin.file}", "apply, wheels")


def browser() -> Finding:
    """Chromium, for the tests of the review page."""
    need, advice = "tests of the review page", "install it (Debian: apt-get install chromium)"
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Finding("Chromium", Verdict.OK, found, need)
    return Finding("Chromium", Verdict.ABSENT, "not on PATH", need, advice)


def _held(pin: Artifact) -> bool:
    file = cache.location(pin)
    try:
        cache.check(file, pin)
    except (OSError, PatchsetError):
        return False
    return True


def _version(subject: str, found: str, wanted: str, need: str, advice: str) -> Finding:
    try:
        fits = Version(found) in SpecifierSet(wanted)
    except InvalidVersion:
        fits = False
    if fits:
        return Finding(subject, Verdict.OK, found, need)
    return Finding(subject, Verdict.LACKS, f"{found or 'not there'}; {wanted} is needed", need, advice)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
