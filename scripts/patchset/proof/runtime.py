# SPDX-License-Identifier: Apache-2.0
"""The runtime of the smoke tests: torch and vLLM's requirements in one venv, vLLM beside it, and both trees for it.

    venv             Python with requirements/runtime.txt, the same for every set with that torch, which has no CUDA
                     where a configured index has such a build (requirements/torch-cpu.txt)
    venv-torch-<version>   the same for another torch: runtime-torch-<version>.txt and torch-cpu-<version>.txt
    vllm-<version>   vLLM without kernels, for PYTHONPATH, and what it or its vllm-ascend requires at another version
                     (requirements/runtime-<version>.txt)

All in build/runtime, made once; each holds a stamp of what it was made from, written last, so that one that was killed
halfway or made from other inputs is made again.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchset.node.errors import Unavailable, UsageError
from patchset.node.manifest import sha256, sha256_file
from patchset.proof import uv
from patchset.sets.setfile import PatchSet
from patchset.system import lock, paths
from patchset.system.terminal import Terminal
from patchset.upstream import cache
from patchset.upstream.pristine import materialize

# What the locks' torch has wheels for, and vLLM runs on.
PYTHON = ">=3.11,<3.13"

_STAMP = ".made-from"


@dataclass(frozen=True)
class Runtime:
    python: Path
    vllm: Path  # folder that holds the vllm package
    env: Mapping[str, str]  # the environment to run it in; PYTHONPATH is left to `environment`
    stamp: str  # what it was made from

    def environment(self, tree: Path, standin: Path | None = None) -> dict[str, str]:
        """The environment in which a vllm-ascend tree is the plugin that vLLM finds. `tree` holds the vllm_ascend
        package and its metadata; `standin`, the NPU's, is None on a machine with NPUs."""
        entries = [entry for entry in (standin, tree, self.vllm) if entry is not None]
        return {**self.env, "PYTHONPATH": os.pathsep.join(map(str, entries))}


def standin_dir(set_name: str) -> Path:
    """The NPU's stand-in for PYTHONPATH: tests/standin, or its folder for a set whose torch_npu needs more."""
    shared = paths.repo_root() / "tests" / "standin"
    own = shared / set_name
    return own if own.is_dir() else shared


def ensure(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> Runtime:
    """The runtime of a set, made where it is not there yet; offline, from the caches of this tool and of uv alone.
    Raises Unavailable where there is no fitting Python, or a package could not be had or built; PinMismatch where
    vLLM's sdist is not what the set pins."""
    root = paths.repo_root() / "build" / "runtime"
    root.mkdir(parents=True, exist_ok=True)
    installer = uv.Installer(root, uv.find(), offline)
    with lock.wait(root / ".lock"):
        python = _venv(installer, patch_set.torch, terminal)
        vllm = _vllm(installer, python, patch_set, terminal)
    return Runtime(python, vllm, _environment(root, patch_set.vllm.version), (vllm / _STAMP).read_text())


@dataclass(frozen=True)
class Trees:
    """The pristine tree, the patched tree, the runtime for both, and the folder of the NPU's stand-in for its path."""

    pristine: Path
    patched: Path
    runtime: Runtime
    standin: Path


def both(patch_set: PatchSet, terminal: Terminal, *, offline: bool, patched: Path | None = None) -> Trees:
    """The trees and the runtime; the pristine tree and the runtime are made where they are not there. `patched` is
    another folder that holds the patched package than the build tree. Raises UsageError where the set has not been
    applied; Unavailable where the pristine tree or the runtime could not be made."""
    patched = patched or paths.tree_dir(patch_set.name)
    if not patched.is_dir():
        raise UsageError(f"{patched} is not there", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
    pristine = paths.pristine_dir(patch_set.name)
    materialize(patch_set, pristine, offline=offline, terminal=terminal)
    made = ensure(patch_set, terminal, offline=offline)
    return Trees(pristine, patched, made, standin_dir(patch_set.name))


def _environment(root: Path, vllm_version: str) -> dict[str, str]:
    return {key: value for key, value in uv.own_environment().items() if not key.startswith("VLLM_")} | {
        # vllm-ascend compares for equality, and vLLM without kernels calls itself <version>+empty.
        "VLLM_VERSION": vllm_version,
        # The platform, and the general plugins that each release needs: its model classes, or its connectors.
        "VLLM_PLUGINS": "ascend,ascend_enhanced_model,ascend_kv_connector,ascend_model",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_DISABLE_COMPILE_CACHE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(root / "cache" / "vllm"),
        "VLLM_CONFIG_ROOT": str(root / "cache" / "vllm-config"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        # Trees stay as they are, yet are compiled once.
        "PYTHONPYCACHEPREFIX": str(root / "cache" / "pycache"),
        "PYTHONUNBUFFERED": "1",
    }


def _venv(installer: uv.Installer, torch: str, terminal: Terminal) -> Path:
    """Makes the venv for a torch version, from a lock of its own or from the one that most sets share; its Python."""
    folder = paths.repo_root() / "requirements"
    venv, locked, torch_cpu = installer.root / "venv", folder / "runtime.txt", folder / "torch-cpu.txt"
    if (own := folder / f"runtime-torch-{torch}.txt").is_file():
        venv, locked, torch_cpu = venv.with_name(f"venv-torch-{torch}"), own, folder / f"torch-cpu-{torch}.txt"
    python = venv / "bin" / "python"
    builds = {"cuda": without_cuda(locked.read_text()), "cpu": without_cuda(locked.read_text(), torch_cpu.read_text())}
    made_from = {build: {"lock": sha256(text.encode()), "python": PYTHON} for build, text in builds.items()}
    if python.exists() and any(_stamped(venv, stamp) for stamp in made_from.values()):
        return python
    base = base_python()
    shutil.rmtree(venv, ignore_errors=True)
    installer.run("make a venv", ["venv", "--python", base, str(venv)])
    install = ["pip", "install", "--python", str(python), "--no-deps", "--require-hashes"]
    build = "cpu" if installer.can([*install, "--dry-run", "-r", str(torch_cpu)]) else "cuda"
    chosen = installer.root / "requirements.txt"
    chosen.write_text(builds[build])
    size = sum(line[0].isalnum() for line in builds[build].splitlines() if line)
    cuda = build == "cuda" and platform.machine() == "x86_64"
    terminal.step(
        f"installing torch and vLLM's requirements ({size} packages) into {os.path.relpath(venv)}"
        + (", with CUDA's libraries, since no index has torch without them" if cuda else "")
    )
    installer.run(f"install requirements/{locked.name}", [*install, "-r", str(chosen)])
    _stamp(venv, made_from[build])
    return python


def without_cuda(requirements: str, torch: str = "") -> str:
    """Locked requirements without what only CUDA needs.

    torch's CUDA build does not load without NVIDIA's libraries, so that these stay unless ``torch``, with its hashes,
    takes its place. Triton compiles for GPUs alone.

    >>> without_cuda("cuda-bindings==2\\nnvidia-nccl==2\\ntorch==2\\ntriton==3\\nvllm==1\\n", "torch==2+cpu\\n")
    'vllm==1\\ntorch==2+cpu\\n'
    >>> without_cuda("torch==2\\ntriton==3\\n")
    'torch==2\\n'
    """
    unwanted = r"triton|torch|(nvidia|cuda)-.*" if torch else "triton"
    blocks = re.split(r"^(?=\S)", requirements, flags=re.MULTILINE)
    return "".join([block for block in blocks if not re.match(rf"({unwanted})==", block)] + [torch])


def _vllm(installer: uv.Installer, python: Path, patch_set: PatchSet, terminal: Terminal) -> Path:
    """Builds and installs vLLM from its pinned sdist, for no device; the folder for PYTHONPATH."""
    pin = patch_set.vllm.sdist
    folder = installer.root / f"vllm-{patch_set.vllm.version}"
    made_from = {"sdist": pin.sha256, "venv": (python.parents[1] / _STAMP).read_text()}
    differing = paths.repo_root() / "requirements" / f"runtime-{patch_set.vllm.version}.txt"
    if differing.is_file():
        made_from["differing"] = sha256_file(differing)
    if _stamped(folder, made_from):
        return folder
    sdist = cache.fetch(pin, offline=installer.offline, terminal=terminal)
    terminal.step(f"building vLLM {patch_set.vllm.version} without kernels into {os.path.relpath(folder)}")
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    # Its requirements are in the venv already; its build requirements too.
    flags = ["--no-deps", "--no-build-isolation", "--no-binary", "vllm", "--reinstall"]
    installer.run(
        f"build vLLM {patch_set.vllm.version}",
        ["pip", "install", "--python", str(python), "--target", str(partial), *flags, str(sdist)],
        {"VLLM_TARGET_DEVICE": "empty", "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
    if differing.is_file():
        place = ["--python", str(python), "--target", str(partial), "--no-deps"]
        words = ["pip", "install", *place, "--require-hashes", "-r", str(differing)]
        installer.run(f"install requirements/{differing.name}", words)
    _stamp(partial, made_from)
    partial.rename(folder)
    return folder


def base_python() -> str:
    """An installed interpreter within the range `PYTHON`; raises Unavailable where there is none."""
    command = [str(uv.find()), "python", "find", "--system", "--no-python-downloads", PYTHON]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Unavailable(
            f"no Python {PYTHON} for the smoke tests: torch and vLLM need one, and this is Python {running}; "
            f"uv says: {' '.join(found.stderr.split())}",
            hint="install python3.12, or run `uv python install 3.12`; SMOKE=0 applies without smoke tests",
        )
    return found.stdout.strip()


def _digest(made_from: Mapping[str, str]) -> str:
    return sha256(json.dumps(made_from, sort_keys=True).encode())


def _stamped(folder: Path, made_from: Mapping[str, str]) -> bool:
    stamp = folder / _STAMP
    return stamp.is_file() and stamp.read_text() == _digest(made_from)


def _stamp(folder: Path, made_from: Mapping[str, str]) -> None:
    (folder / _STAMP).write_text(_digest(made_from))
