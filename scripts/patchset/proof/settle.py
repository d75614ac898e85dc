# SPDX-License-Identifier: Apache-2.0
"""What an applied target is known to pass: an earlier run's word for the very same tree, or the quick tier now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node import fingerprint
from patchset.node.errors import PatchsetError
from patchset.plan import plan
from patchset.proof import gate, installed, smoke
from patchset.proof.gate import Tier
from patchset.proof.smoke import Patched, SmokeReport
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.target.locate import Kind, Target
from patchset.upstream.pristine import materialize


@dataclass(frozen=True)
class Tested:
    """What is known of a target.

    Attributes:
        passed: it has passed the smoke tests, now or before.
        report: of the tests that ran now; None where none did.
        said: in a line: what passed and what was not run, or why nothing is known.
    """

    passed: bool
    report: SmokeReport | None
    said: str

    def as_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "said": self.said, "run": self.report.as_dict() if self.report else None}


def settle(
    patch_set: PatchSet, target: Target, tree: str, *, device: str, wanted: bool, offline: bool, terminal: Terminal
) -> Tested:
    """Runs the quick tier on an applied target, unless the very same tree has passed on this device.

    Never raises for what keeps the tests from running: the target is applied, and what was not tested is said.
    `tree` is the digest of what is in the target, and the device is cpu for the NPU's stand-in, or npu. Tests that are
    due are left out where they are not `wanted`.
    """
    again = f"make apply{target.named}"
    if tier := gate.passed(patch_set.name, gate.subject(patch_set.name, tree, device)):
        return Tested(True, None, f"smoke tests: this tree has passed the {_named(tier, patch_set)}")
    if not wanted:
        return Tested(False, None, f"not smoke-tested, as asked; `{again}` runs the quick tier")
    try:
        patched = None
        if target.kind is not Kind.BUILD:
            patched = Patched(_package(patch_set, target, device, offline=offline, terminal=terminal), tree)
        report = smoke.run(
            patch_set, device=device, terminal=terminal, tier=Tier.QUICK, offline=offline, patched=patched
        )
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
        return installed.alone(patch_set, target.root, place, device)
    pristine = paths.pristine_dir(patch_set.name)
    materialize(patch_set, pristine, offline=offline, terminal=terminal)
    return installed.linked(
        place, (target.root / patch_set.package, pristine / f"{patch_set.package}.egg-info"), device
    )


def of_installation(patch_set: PatchSet, given: Path, device: str) -> Patched:
    """The patched wheel that an installer left in a virtual environment or site-packages folder.

    Raises:
        UsageError, PinMismatch: as `installed.site_packages`.
    """
    folder = installed.site_packages(patch_set, given)
    tree = fingerprint.of(plan.patched_manifest(patch_set.sources(), patch_set.touched), patch_set.package)
    return Patched(installed.alone(patch_set, folder, paths.build_dir(patch_set.name) / "installed", device), tree)
