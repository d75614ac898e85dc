# SPDX-License-Identifier: Apache-2.0
"""A wheel built from the patched tree by upstream's own build: with kernels where CANN is, without them anywhere. The
build runs in an environment that has its requirements already, as upstream's instructions have it: torch-npu's build
requirements cannot be isolated from the CANN that they were made for."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchset.node import fingerprint, manifest
from patchset.node.errors import Unavailable, UsageError
from patchset.node.verify import entry
from patchset.node.verify.entry import Entry
from patchset.plan import plan
from patchset.proof import runtime
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source
from patchset.wheels import build, wheel
from patchset.wheels.wheel import Draft, Wheel

_CANN = Path("/usr/local/Ascend/ascend-toolkit/latest")  # upstream's setup.py has the same default
_HOOK = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # PEP 517
_SOC = "ascend910b1"  # an Atlas A2, as upstream's Dockerfile has it; later releases ask for one even without kernels
_TAIL = 12
_LIMIT_S = 3600


def drafts(
    patch_set: PatchSet, version: str, *, upstream: Path | None, python: Path | None, offline: bool, terminal: Terminal
) -> Iterator[Draft]:
    """Builds the patched tree: one wheel, for the interpreter and the machine that built it. `upstream` is taken
    instead of the download, and built by `python`, or the usual interpreter. Raises Unavailable, with the last words of
    the build, where that failed, or CANN or the build requirements are not here; PinMismatch where the built wheel does
    not have the patched sources."""
    source = Source(patch_set, given=upstream, offline=offline, terminal=terminal)
    kernels = _kernels()
    if kernels and not python:  # that of the machine's own environment, else that of the smoke tests
        if not (found := shutil.which("python3")):
            raise Unavailable("no python3 on the PATH", hint="name the one that has torch-npu: --python PATH")
        python = Path(found)
    python = python or runtime.ensure(patch_set, terminal, offline=offline).python
    python = python.absolute()  # not resolved: a venv's is a link
    worked_out = plan.make_pinned(patch_set, source.read)
    folder = paths.build_dir(patch_set.name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=folder) as scratch:
        tree, out = Path(scratch, "tree"), Path(scratch, "out")
        shutil.copytree(source.tree(), tree)
        for path, change in worked_out.changes.items():
            if change.after is None:
                (tree / path).unlink()
                continue
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(change.after)
            if change.executable:
                (tree / path).chmod(0o755)
        terminal.step(f"building vllm-ascend {patch_set.ascend.version} {'with' if kernels else 'without'} kernels")
        file = _build(patch_set, python, tree, out, folder / "wheel-from-source.log")
        built = wheel.parse(file.name, file.read_bytes(), package=patch_set.package, version=patch_set.ascend.version)
    sources = plan.patched_manifest(patch_set.sources(), worked_out.touched)
    if not kernels:  # the folder that they go to is in no such wheel
        into = f"{patch_set.package}/{fingerprint.KERNELS}"
        sources = {path: sha for path, sha in sources.items() if not path.startswith(into)}
    build.check_package(built, sources, f"the patched tree of {patch_set.name}")
    entries = list(_normal(built, patch_set, source.tree()))
    made, data = build.finish(built, entries, worked_out, patch_set.ascend.sdist, version)
    package = {path: sha for path, sha in sources.items() if path.startswith(f"{patch_set.package}/")}
    yield Draft(made, data, {**made.build.files, **package})


def _kernels() -> bool:
    """Whether upstream's build will compile kernels: its own variable, read as it does."""
    value = os.environ.get("COMPILE_CUSTOM_KERNELS", "1")
    if value not in ("0", "1"):
        raise UsageError(f"COMPILE_CUSTOM_KERNELS={value!r}", hint="it is 0 or 1")
    if value == "1" and not Path(os.environ.get("ASCEND_HOME_PATH", _CANN)).is_dir():
        said = f"no CANN here to compile kernels with: no folder {os.environ.get('ASCEND_HOME_PATH', _CANN)}"
        hint = "COMPILE_CUSTOM_KERNELS=0 builds a wheel without kernels; `make wheels` takes upstream's"
        raise Unavailable(said, hint=hint)
    return value == "1"


def _build(patch_set: PatchSet, python: Path, tree: Path, out: Path, log: Path) -> Path:
    """Runs the build backend of the tree; the wheel that it made."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environ.setdefault("SOC_VERSION", _SOC)
    environ |= {
        "SETUPTOOLS_SCM_PRETEND_VERSION": patch_set.ascend.version,
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    out.mkdir()
    with log.open("wb") as stream:
        try:
            command = [str(python), "-c", _HOOK, str(out)]
            how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream}
            code = subprocess.run(command, cwd=tree, env=environ, timeout=_LIMIT_S, check=False, **how).returncode
        except subprocess.TimeoutExpired:
            raise Unavailable(f"the build took more than {_LIMIT_S} s", hint=f"read {log}") from None
        except OSError as error:
            raise UsageError(f"{python}: {error.strerror}", hint="--python is an interpreter") from error
    made = list(out.glob("*.whl"))
    if code or len(made) != 1:
        tail = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-_TAIL:])
        hint = "its environment must have upstream's build requirements (pyproject.toml of vllm-ascend)"
        raise Unavailable(f"{python} could not build the wheel\n  {tail}\n  log: {log}", hint=hint)
    return made[0]


def _normal(built: Wheel, patch_set: PatchSet, pristine: Path) -> Iterator[Entry]:
    """The built entries without what depends on the machine: packing, timestamps, modes, and setuptools-scm.
    setuptools-scm writes _version.py anew, in the words of its own release and without the commit; the sdist has the
    one of the release."""
    generated = patch_set.upstream_manifest()
    for one in built.entries:
        if one.is_folder:
            continue
        data = one.data
        if one.path in patch_set.generated and (file := pristine / one.path).is_file():
            released = file.read_bytes()  # but a given checkout may have its own
            data = released if manifest.sha256(released) == generated[one.path] else data
        mode = 0o755 if one.mode & 0o100 else 0o644
        yield entry.new(one.path, data, (stat.S_IFREG | mode) << 16)
