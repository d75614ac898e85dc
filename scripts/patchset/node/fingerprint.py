# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a build: one digest of its Python files, the same for a tree, a wheel and an installation.

It is the sha256 of the files' sha256sum lines, sorted by path:

    <sha256>  vllm_ascend/__init__.py
    <sha256>  vllm_ascend/ascend_config.py
    ...

That is Hash1 of golang.org/x/mod/sumdb/dirhash in hex, in-toto's `dirHash`; `sha256sum` and `sort` compute it too.
Files that a build writes are left out, so that a checkout, six wheels and an installation made from one set agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from patchset.node import manifest

PACKAGE = "vllm_ascend"
WRITTEN_BY_BUILDS = ("_version.py", "_build_info.py")
KERNELS = "_cann_ops_custom/"  # a folder that the build of CANN's kernels fills, with Python files too


def counts(path: str, package: str = PACKAGE) -> bool:
    """Whether a file, by its path with slashes below the folder that holds the package, is part of the fingerprint.

    >>> counts("vllm_ascend/ops/fused_moe.py")
    True
    >>> counts("vllm_ascend/_build_info.py") or counts("vllm_ascend/_C.so") or counts("setup.py")
    False
    >>> counts("vllm_ascend/_cann_ops_custom/vendors/vllm-ascend/op_impl/moe_gating_top_k.py")
    False
    """
    top, _, rest = path.partition("/")
    written = rest in WRITTEN_BY_BUILDS or rest.startswith(KERNELS)
    return top == package and rest.endswith(".py") and not written


def of(files: Mapping[str, str], package: str = PACKAGE) -> str:
    """The fingerprint, in hex, of files given by path and sha256; files that do not count are left out."""
    return manifest.digest({path: sha for path, sha in files.items() if counts(path, package)})


def of_folder(root: Path, package: str = PACKAGE) -> str:
    """The fingerprint of the package that lies in a folder: a tree, a checkout or site-packages."""
    return of(measure(root, package), package)


def measure(root: Path, package: str) -> manifest.Manifest:
    """sha256 of each file that counts, by path, of the package that lies in a folder."""
    paths = (f"{package}/{path}" for path in manifest.walk(root / package))
    return manifest.measure(root, (path for path in paths if counts(path, package)))
