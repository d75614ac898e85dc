# SPDX-License-Identifier: Apache-2.0
"""What an applied target is known to pass: an earlier run's word for the very same tree, or the quick tier now."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node import fingerprint
from patchset.node.errors import PatchsetError, PinMismatch, UsageError
from patchset.plan import plan
from patchset.proof import gate, smoke
from patchset.proof.gate import Tier
from patchset.proof.smoke import Patched, SmokeReport
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.target.locate import Kind, Target
from patchset.upstream.pristine import materialize


@dataclass(frozen=True)
class Tested:
    passed: bool  # it has passed the smoke tests, now or before
    report: SmokeReport | None  # of the tests that ran now; None where none did
    said: str  # in a line: what passed and what was not run, or why nothing is known

    def as_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "said": self.said, "run": self.report.as_dict() if self.report else None}


def settle(
    patch_set: PatchSet, target: Target, tree: str, *, device: str, wanted: bool, offline: bool, terminal: Terminal
) -> Tested:
    """Runs the quick tier on an applied target, unless the very same tree has passed on this device. Never raises for
    what keeps the tests from running: the target is applied, and what was not tested is said. `tree` is the digest of
    what is in the target. Tests that are due are left out where they are not `wanted`."""
    again = f"make apply{target.named}"
    if tier := gate.passed(patch_set.name, gate.subject(patch_set.name, tree, device)):
        return Tested(True, None, f"smoke tests: this tree has passed the {_named(tier, patch_set)}")
    if not wanted:
        return Tested(False, None, f"not smoke-tested, as asked; `{again}` runs the quick tier")
    try:
        patched = None
        if target.kind is not Kind.BUILD:
            patched = Patched(_package(patch_set, target, device, offline=offline, terminal=terminal), tree)
        how: dict[str, Any] = {"device": device, "terminal": terminal, "offline": offline}
        report = smoke.run(patch_set, **how, tier=Tier.QUICK, patched=patched)
    except PatchsetError as error:
        terminal.error(error)
        return Tested(False, None, f"not smoke-tested: {error.message.splitlines()[0]}; then `{again}` runs them")
    if not report.ok:
        return Tested(False, report, f"smoke tests: the quick tier failed; `{again}` runs it again")
    return Tested(True, report, f"smoke tests: this tree has passed the {_named(Tier.QUICK, patch_set)}")


def _named(tier: Tier, patch_set: PatchSet) -> str:
    return f"quick tier; `make smoke VERSION={patch_set.name}` runs all" if tier is Tier.QUICK else "whole suite"


def _package(patch_set: PatchSet, target: Target, device: str, *, offline: bool, terminal: Terminal) -> Path:
    """A folder with the package in place, and metadata by which vLLM finds its plugins."""
    place = paths.build_dir(patch_set.name) / "in-place"
    if target.kind is Kind.SITE_PACKAGES:
        return _alone(patch_set, target.root, place, device)
    pristine = paths.pristine_dir(patch_set.name)
    materialize(patch_set, pristine, offline=offline, terminal=terminal)
    return _linked(place, (target.root / patch_set.package, pristine / f"{patch_set.package}.egg-info"), device)


def of_installation(patch_set: PatchSet, given: Path, device: str) -> Patched:
    """The patched wheel that an installer left: in the folder given, as `pip install --target` makes it, or a venv's.
    Raises UsageError where the package is not installed there, or an editable installation; PinMismatch where what is
    installed is not what the set makes."""
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
        what, hint = f"the {patch_set.package} installed in {folder}", "says which files differ"
        seals = {"expected": f"fingerprint {expected}", "found": f"fingerprint {measured}"}
        raise PinMismatch(what, **seals, hint=f"patchset verify --installed --path {folder} {hint}")
    return Patched(_alone(patch_set, folder, paths.build_dir(patch_set.name) / "installed", device), expected)


def _alone(patch_set: PatchSet, folder: Path, place: Path, device: str) -> Path:
    """The installed package and its metadata alone: the smoke tests bring their own torch and vLLM."""
    return _linked(place, (folder / patch_set.package, *folder.glob(f"{patch_set.package}-*.dist-info")), device)


def _linked(place: Path, entries: Iterable[Path], device: str) -> Path:
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
