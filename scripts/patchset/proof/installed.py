# SPDX-License-Identifier: Apache-2.0
"""A patched wheel as an installer left it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from patchset.node import fingerprint
from patchset.node.errors import PinMismatch, UsageError
from patchset.plan import plan
from patchset.sets.setfile import PatchSet


def site_packages(patch_set: PatchSet, given: Path) -> Path:
    """The folder that holds the installed package: the one given, as `pip install --target` makes it, or a venv's.

    Raises:
        UsageError: the package is not installed there, or an editable installation.
        PinMismatch: what is installed is not what the set makes.
    """
    candidates = [given, *sorted(given.glob("lib/python3*/site-packages"))]
    found = [folder for folder in candidates if list(folder.glob(f"{patch_set.package}-*.dist-info"))]
    if not found:
        hint = "give a virtual environment or a site-packages folder; `make wheels` prints how to install"
        raise UsageError(f"{given} has no installation of {patch_set.package}", hint=hint)
    folder = found[0].resolve()
    if not (folder / patch_set.package).is_dir():
        hint = "an editable installation runs a checkout: patch and test that one with TARGET="
        raise UsageError(f"{folder} has {patch_set.package}'s metadata and not its files", hint=hint)
    expected = fingerprint.of(plan.patched_manifest(patch_set.sources(), patch_set.touched), patch_set.package)
    if (measured := fingerprint.of_folder(folder, patch_set.package)) != expected:
        raise PinMismatch(
            f"the {patch_set.package} installed in {folder}",
            expected=f"fingerprint {expected}",
            found=f"fingerprint {measured}",
            hint=f"patchset verify --installed --path {folder} says which files differ",
        )
    return folder


def alone(patch_set: PatchSet, folder: Path, place: Path, device: str) -> Path:
    """A folder with links to the installed package and its metadata alone, for PYTHONPATH.

    The environment that it was installed into may have its own torch and vLLM; the smoke tests bring theirs.
    """
    return linked(place, (folder / patch_set.package, *folder.glob(f"{patch_set.package}-*.dist-info")), device)


def linked(place: Path, entries: Iterable[Path], device: str) -> Path:
    """``place``, made anew with a link to each entry; for the stand-in (cpu), which has kernels of its own and cannot
    load an NPU's, a package has no compiled libraries."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for entry in entries:
        if device == "cpu" and any(entry.glob("*.so")):
            (place / entry.name).mkdir()
            for member in entry.iterdir():
                if member.suffix != ".so":
                    (place / entry.name / member.name).symlink_to(member)
        else:
            (place / entry.name).symlink_to(entry)
    return place
