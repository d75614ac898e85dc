# SPDX-License-Identifier: Apache-2.0
"""Tests that run where their code runs, with torch, vLLM, Ray and the patched tree: one suite for each folder."""

from __future__ import annotations

from dataclasses import dataclass

from patchset.proof import runtime, testrun
from patchset.proof.smoke import SHARED_ON
from patchset.proof.testrun import Case
from patchset.sets.setfile import PatchSet
from patchset.system import disk, paths
from patchset.system.terminal import Terminal
from patchset.wheels import kit
from selftest import coverage, schedules
from selftest.coverage import Covered

_LIMIT_S = 1200.0


@dataclass(frozen=True)
class OverlayTests:
    """How the tests went."""

    cases: tuple[Case, ...]  # every test
    covered: Covered  # what those of overlay and simulator have run of the overlay
    enough: bool  # whether that is as much as it must be; only the set that tests what all share is held to it


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False, slow: bool = False) -> OverlayTests:
    """Runs the tests of overlay and simulator and, on one set, of all that sets share: build/<set>/<suite>-tests.log.

    With `slow` also those that wait for minutes for a node or rank that does not answer.

    Raises Unavailable: the runtime or the pristine tree could not be made; Findings: the tests did not come to an end.
    """
    both = runtime.both(patch_set, terminal, offline=offline)
    tests, build = paths.repo_root() / "tests", paths.build_dir(patch_set.name)
    suites = {"overlay": ["overlay", *([] if patch_set.name == SHARED_ON else ["-m", "not shared"])]}
    if patch_set.name in schedules.SETS:
        suites["prove"] = ["prove"]
    if (tests / "standin" / patch_set.name / "tests").is_dir():  # what its stand-in has beside the shared one
        suites["standin"] = [f"standin/{patch_set.name}/tests"]
    if patch_set.name == SHARED_ON:  # of what all sets share, one release is enough
        suites["standin"] = ["standin/tests"]
        suites["survey"] = ["survey/tests"]
        disk.write(build / kit.NAME, kit.build(kit.expect(patch_set)), mode=0o644)
        suites["cluster"] = ["cluster", f"--kit={build / kit.NAME}", f"--pristine={both.pristine}"]
        suites["cluster"] += [] if slow else ["-m", "not slow"]
    cases: list[Case] = []
    measured = both.patched / patch_set.package / "data_parallel"
    measuring = coverage.begin(measured, build / "coverage")
    for suite, (folder, *options) in suites.items():
        log = build / f"{suite}-tests.log"
        terminal.step(f"{suite} tests; log: {log}")
        environ = both.runtime.environment(both.patched, both.standin)
        cases += testrun.run(
            [str(both.runtime.python), "-m", "pytest", "-v", "-p", "no:cacheprovider", str(tests / folder), *options],
            environ=environ | (measuring if suite in ("overlay", "prove") else {}),
            folder=tests.parent,
            log=log,
            limit=_LIMIT_S,
        )
    covered = coverage.end(both.runtime.python, build / "coverage")
    held = patch_set.name == SHARED_ON
    return OverlayTests(tuple(cases), covered, not held or covered.percent >= coverage.LIMIT)
