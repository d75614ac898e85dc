# SPDX-License-Identifier: Apache-2.0
"""What this machine has and lacks for the set's commands, and what to do about each. Where things of Ascend lie is read
from upstream's own `setup.py` and `collect_env.py`: ASCEND_HOME_PATH or the toolkit's default folder, its
`ascend_toolkit_install.info`, and `npu-smi info`."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from patchset.node.errors import PatchsetError
from patchset.proof import runtime
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
_DEVICES = Path("/dev")
_TOOLKIT = Path("/usr/local/Ascend/ascend-toolkit/latest")
_SERVING = "serving; DEVICE=npu; FROM=source"
_TIMEOUT_S = 60

# Asked of the serving environment's own interpreter, which may be older than ours and has none of our packages.
_QUESTION = """
import json, platform
from importlib.metadata import PackageNotFoundError, version
def of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
names = ("vllm", "vllm-ascend", "torch", "torch-npu")
print(json.dumps({"python": platform.python_version(), **{name: of(name) for name in names}}))
"""


class Verdict(Enum):
    OK = "ok"
    LACKS = "lacks"  # a command that every machine should be able to run would fail
    ABSENT = "absent"  # not there, and only needed for what `needed_for` says


@dataclass(frozen=True)
class Finding:
    subject: str
    verdict: Verdict
    found: str  # a version, a path, an amount, or why it cannot be used
    needed_for: str  # the commands that need it
    advice: str = ""  # what to do; empty where it is there


def look(patch_set: PatchSet, *, offline: bool, serving: Path | None) -> Iterator[Finding]:
    """Every finding; nothing is installed or changed, and offline the index is not asked. `serving` is the interpreter
    of the serving environment, whose packages are left out where it is not named."""
    yield python()
    yield git()
    yield smoke_python()
    yield disk(paths.build_dir(patch_set.name))
    yield smoke_runtime()
    yield download_cache(patch_set)
    if not offline:
        yield package_index(patch_set.ascend.sdist)
    yield browser()
    yield npu()
    yield cann(patch_set)
    if serving:
        yield from packages(patch_set, serving)
    else:
        advice = "give its interpreter: patchset doctor --python /path/to/python"
        yield Finding("serving environment", Verdict.ABSENT, "not named", "serving", advice)


def python() -> Finding:
    return _version("Python", platform.python_version(), TOOL_PYTHON, "everything", "make PYTHON=python3.11 ...")


def git() -> Finding:
    said = ""
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            ["git", "--version"], capture_output=True, text=True, check=False, timeout=20
        ).stdout.strip()
    found = re.search(r"\d+(\.\d+)+", said)
    advice = f"install git {OLDEST} or newer"
    return _version("git", found.group() if found else said, f">={OLDEST}", "everything", advice)


def smoke_python() -> Finding:
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
    held = 0
    for pin in pins:
        with suppress(OSError, PatchsetError):
            cache.check(cache.location(pin), pin)
            held += 1
    found = f"{folder}: {held} of {len(pins)} files of {patch_set.name}"
    return Finding("download cache", Verdict.OK, found, "OFFLINE=1")


def package_index(pin: Artifact) -> Finding:
    try:
        where = index.find(pin)
    except PatchsetError as error:
        advice = "check pip's settings (pip config list); or give UPSTREAM=path, or OFFLINE=1 with a filled cache"
        return Finding("package index", Verdict.LACKS, error.message.replace("\n  ", "; "), "apply, wheels", advice)
    return Finding("package index", Verdict.OK, f"{where} has {pin.file}", "apply, wheels")


def browser() -> Finding:
    need, advice = "tests of the review page", "install it (Debian: apt-get install chromium)"
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Finding("Chromium", Verdict.OK, found, need)
    return Finding("Chromium", Verdict.ABSENT, "not on PATH", need, advice)


def _version(subject: str, found: str, wanted: str, need: str, advice: str) -> Finding:
    with suppress(InvalidVersion):
        if Version(found) in SpecifierSet(wanted):
            return Finding(subject, Verdict.OK, found, need)
    return Finding(subject, Verdict.LACKS, f"{found or 'not there'}; {wanted} is needed", need, advice)


def npu(devices: Path = _DEVICES) -> Finding:
    found = sorted(path.name for path in devices.glob("davinci[0-9]*"))
    if not found:
        advice = "none is needed to apply, prove or make wheels; on a node, install Ascend's driver"
        return Finding("NPU", Verdict.ABSENT, f"no {devices}/davinci*", _SERVING, advice)
    if shutil.which("npu-smi") is None:
        advice = "put the driver's tools on PATH, or mount them into the container"
        return Finding("NPU", Verdict.LACKS, f"{len(found)}, but no npu-smi", _SERVING, advice)
    return Finding("NPU", Verdict.OK, f"{len(found)}: {', '.join(found)}", _SERVING)


def cann(patch_set: PatchSet) -> Finding:
    home = Path(os.environ.get("ASCEND_HOME_PATH") or _TOOLKIT)
    info = next(iter(sorted(home.glob("*-linux/ascend_toolkit_install.info"))), None)
    advice = f"install CANN {patch_set.cann} and source its set_env.sh"
    if info is None:
        return Finding("CANN", Verdict.ABSENT, f"not in {home}", _SERVING, advice)
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    version = next((line.partition("=")[2].strip() for line in lines if line.startswith("version=")), "unknown")
    found = f"{version} in {home}"
    if version.casefold() == patch_set.cann.casefold():
        return Finding("CANN", Verdict.OK, found, _SERVING)
    return Finding("CANN", Verdict.LACKS, f"{found}; the release is made for {patch_set.cann}", _SERVING, advice)


def packages(patch_set: PatchSet, python: Path) -> Iterator[Finding]:
    """What the serving environment has installed, against the set's pins."""
    try:
        command = [str(python), "-I", "-c", _QUESTION]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
        have: Mapping[str, str | None] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = str(error).splitlines()[0]
        yield Finding("serving environment", Verdict.LACKS, f"{python}: {why}", "serving", "give its interpreter")
        return
    wanted = {
        "python": patch_set.python,
        "vllm": f"=={patch_set.vllm.version}",
        "vllm-ascend": f"=={patch_set.ascend.version}",
        "torch": f"=={patch_set.torch}",
        "torch-npu": f"=={patch_set.torch_npu}",
    }
    for name, specifier in wanted.items():
        version = have.get(name)
        subject, advice = f"{name} of {python}", f"install {name}{specifier} there"
        if version is None:
            yield Finding(subject, Verdict.LACKS, "not installed", "serving", advice)
        elif SpecifierSet(specifier, prereleases=True).contains(Version(version)):
            yield Finding(subject, Verdict.OK, version, "serving")
        else:
            advice += ", or use the set of your release"
            yield Finding(subject, Verdict.LACKS, f"{version}; {specifier} is pinned", "serving", advice)
