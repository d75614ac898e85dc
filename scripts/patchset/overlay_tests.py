# SPDX-License-Identifier: Apache-2.0
"""Tests that run where their code runs, with torch, vLLM, Ray and the patched tree: one suite for each folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import disk, paths, prove, runtime, testrun, trees
from patchset.cluster import expect, kit

if TYPE_CHECKING:
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal
    from patchset.testrun import Case

_LIMIT_S = 600.0


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False, slow: bool = False) -> list[Case]:
    """Runs the tests of overlay, stand-in, simulator and cluster; the output goes to build/<set>/<suite>-tests.log.

    Args:
        patch_set: whose patched tree.
        terminal: where progress goes.
        offline: use the download caches alone.
        slow: also those that wait for minutes for a node or rank that does not answer.

    Raises:
        Unavailable: the runtime or the pristine tree could not be made.
        Findings: the tests did not come to an end.
    """
    both = trees.both(patch_set, terminal, offline=offline)
    tests, build = paths.repo_root() / "tests", paths.build_dir(patch_set.name)
    suites = {
        "overlay": ["overlay"],
        "standin": ["standin/tests"],
    }
    if patch_set.name in prove.SETS:  # of what all sets share, one release is enough
        suites["prove"] = ["prove"]
        disk.write(build / kit.NAME, kit.build(expect.from_set(patch_set)), mode=0o644)
        suites["cluster"] = ["cluster", f"--kit={build / kit.NAME}", f"--pristine={both.pristine}"]
        suites["cluster"] += [] if slow else ["-m", "not slow"]
    cases = []
    for suite, (folder, *options) in suites.items():
        log = build / f"{suite}-tests.log"
        terminal.step(f"{suite} tests; log: {log}")
        cases += testrun.run(
            [str(both.runtime.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests / folder), *options],
            environ=both.runtime.environment(both.patched, runtime.standin_dir()),
            folder=tests.parent,
            log=log,
            limit=_LIMIT_S,
        )
    return cases
