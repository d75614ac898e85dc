# SPDX-License-Identifier: Apache-2.0
"""patchset-node.pyz: all checks of a node and the expected values, in one file for Python 3.9 and later."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import patchset
from patchset.node import fingerprint
from patchset.node.cluster.main import EXPECTED
from patchset.node.errors import UsageError
from patchset.node.expected import Expected
from patchset.node.verify import build as builds
from patchset.node.verify import checks, entry
from patchset.plan import plan
from patchset.sets.setfile import Artifact, PatchSet
from patchset.upstream import cache

NAME = "patchset-node.pyz"

_MODULES = ("__init__.py", "node/*.py", "node/verify/*.py", "node/cluster/*.py")
_MAIN = """\
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("error: Python 3.9 or newer is needed; %s is %s\\n" % (sys.executable, sys.version.split()[0]))
    sys.exit(2)

from patchset.node.cluster.main import main

sys.exit(main())
"""


def expect(
    patch_set: PatchSet, version: str = "", manifests: Mapping[str, str] | None = None, *, cached: bool = False
) -> Expected:
    """What a set makes, as set.toml pins it; the version is the release's, with any local label, by default. Where
    `cached`, upstream's wheels in the download cache are looked into, for what the set has no say in."""
    package, sources = patch_set.package, patch_set.sources()
    patched = plan.patched_manifest(sources, patch_set.touched)
    return Expected(
        set=patch_set.name,
        package=package,
        release=patch_set.ascend.version,
        version=version or patch_set.ascend.version,
        vllm=patch_set.vllm.version,
        torch=patch_set.torch,
        torch_npu=patch_set.torch_npu,
        cann=patch_set.cann,
        files={path: sha for path, sha in patched.items() if fingerprint.counts(path, package)},
        pristine={path: sha for path, sha in sources.items() if fingerprint.counts(path, package)},
        others={path: sha for path, sha in patched.items() if not fingerprint.counts(path, package)},
        made_from={
            pin.sha256: _kept(pin, package) if cached else {}
            for pin in (patch_set.ascend.sdist, *patch_set.ascend.wheels)
        },
        manifests=manifests or {},
    )


def _kept(pin: Artifact, package: str) -> dict[str, str]:
    """What builds keep of a wheel in the cache besides what the set knows; nothing where it is not there."""
    file = cache.location(pin)
    if file.suffix != ".whl" or not file.is_file():
        return {}
    cache.check(file, pin, hint="remove it, and let the next command fetch it anew")
    return checks.kept(builds.read_wheel(file), package)


def build(expected: Expected) -> bytes:
    """The bytes of the kit; nothing is compressed, since zlib's output differs between its versions."""
    root = Path(patchset.__file__).parent
    sources = [file for pattern in _MODULES for file in root.glob(pattern)]
    files = {f"{root.name}/{file.relative_to(root).as_posix()}": file.read_bytes() for file in sources}
    files |= {"__main__.py": _MAIN.encode(), f"{root.name}/node/{EXPECTED}": expected.render()}
    return b"#!/usr/bin/env python3\n" + entry.write([entry.new(path, files[path]) for path in sorted(files)])


def run(python: str, words: Sequence[str], data: bytes) -> int:
    """Runs `PYTHON patchset-node.pyz WORDS` on our stdout and stderr; its exit code. No such Python: UsageError."""
    found = shutil.which(python)
    if found is None:
        raise UsageError(f"--python {python}: no such program", hint="name the Python that vLLM runs on")
    with tempfile.TemporaryDirectory(prefix="patchset-kit-") as folder:
        file = Path(folder) / NAME
        file.write_bytes(data)
        return subprocess.run([found, str(file), *words], check=False).returncode
