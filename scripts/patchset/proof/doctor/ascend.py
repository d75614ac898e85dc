# SPDX-License-Identifier: Apache-2.0
"""The Ascend side: devices, driver, CANN, and the packages of the environment that serves.

Where things lie is read from upstream's own `setup.py` and `collect_env.py`: ASCEND_HOME_PATH or the toolkit's default
folder, its `ascend_toolkit_install.info`, and `npu-smi info`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from patchset.proof.doctor import Finding, Verdict
from patchset.sets.setfile import PatchSet

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


def look(patch_set: PatchSet, *, python: Path | None) -> Iterator[Finding]:
    """Every finding about NPUs and the serving environment, whose packages are left out where it has no `python`."""
    yield npu()
    yield cann(patch_set)
    if python is None:
        advice = "give its interpreter: patchset doctor --python /path/to/python"
        yield Finding("serving environment", Verdict.ABSENT, "not named", "serving", advice)
    else:
        yield from packages(patch_set, python)


def npu(devices: Path = _DEVICES) -> Finding:
    """NPUs that the driver shows as device files."""
    found = sorted(path.name for path in devices.glob("davinci[0-9]*"))
    if not found:
        advice = "none is needed to apply, prove or make wheels; on a node, install Ascend's driver"
        return Finding("NPU", Verdict.ABSENT, f"no {devices}/davinci*", _SERVING, advice)
    if shutil.which("npu-smi") is None:
        advice = "put the driver's tools on PATH, or mount them into the container"
        return Finding("NPU", Verdict.LACKS, f"{len(found)}, but no npu-smi", _SERVING, advice)
    return Finding("NPU", Verdict.OK, f"{len(found)}: {', '.join(found)}", _SERVING)


def cann(patch_set: PatchSet) -> Finding:
    """The CANN toolkit's version."""
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
