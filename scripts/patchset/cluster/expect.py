# SPDX-License-Identifier: Apache-2.0
"""What the nodes must have: the build that a set makes, or the wheels in dist/."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

from patchset import fingerprint, plan
from patchset.cluster.node.expected import Expected
from patchset.errors import PinMismatch, UsageError
from patchset.manifest import sha256_file
from patchset.wheels import publish
from patchset.wheels.wheel import PATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patchset.setfile import PatchSet


def from_set(patch_set: PatchSet) -> Expected:
    """What `patchset apply` makes of a tree or an installation, and every wheel of the set."""
    files = plan.patched_manifest(patch_set.sources(), patch_set.touched)
    return _expected(patch_set, patch_set.ascend.version, files)


def of_wheels(patch_set: PatchSet, version: str) -> Expected:
    """What wheels of the set with this version give; local labels and all."""
    return replace(from_set(patch_set), ascend=version)


def from_dist(patch_set: PatchSet) -> Expected:
    """What the wheels in dist/<set>/ hold, and their version.

    Raises:
        UsageError: there are none, or they are not what `patchset wheels` writes.
        PinMismatch: a wheel is not the one that manifest.json lists.
    """
    folder = publish.folder(patch_set.name)
    hint = f"make wheels VERSION={patch_set.name}"
    try:
        listed = json.loads((folder / "manifest.json").read_bytes())
        # All wheels of one set have the same Python files.
        first = listed["wheels"][0]
        wheel = folder / first["file"]
        if (found := sha256_file(wheel)) != first["sha256"]:
            raise PinMismatch(str(wheel), expected=first["sha256"], found=found, hint=hint)
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(f".dist-info/{PATCHED}"))
            files = json.loads(archive.read(member))["files"]
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename} is not there", hint=hint) from error
    except (ValueError, LookupError, TypeError, StopIteration, zipfile.BadZipFile) as error:
        raise UsageError(f"{folder} is not what `patchset wheels` writes: {error}", hint=hint) from error
    return _expected(patch_set, listed["version"], files)


def _expected(patch_set: PatchSet, version: str, files: Mapping[str, str]) -> Expected:
    return Expected(
        set=patch_set.name,
        package=patch_set.package,
        ascend=version,
        vllm=patch_set.vllm.version,
        torch=patch_set.torch,
        torch_npu=patch_set.torch_npu,
        cann=patch_set.cann,
        files=_counting(files, patch_set.package),
        upstream=_counting(patch_set.sources(), patch_set.package),
    )


def _counting(files: Mapping[str, str], package: str) -> dict[str, str]:
    return {path: sha for path, sha in files.items() if fingerprint.counts(path, package)}
