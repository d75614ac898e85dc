# SPDX-License-Identifier: Apache-2.0
"""The tests of overlay, stand-in and simulator, run where their code runs: with torch, vLLM and the patched tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import paths, runtime, testrun

if TYPE_CHECKING:
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal
    from patchset.testrun import Case

_LIMIT_S = 600.0
_SUITES = {"overlay": "overlay", "standin": "standin/tests", "prove": "prove"}


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> list[Case]:
    """Runs tests/overlay, tests/standin/tests and tests/prove; the output goes to build/<set>/<suite>-tests.log.

    Raises:
        Unavailable: the runtime could not be made.
        Findings: the tests did not come to an end.
    """
    made = runtime.ensure(patch_set, terminal, offline=offline)
    tests = paths.repo_root() / "tests"
    cases = []
    for suite, folder in _SUITES.items():
        log = paths.build_dir(patch_set.name) / f"{suite}-tests.log"
        terminal.step(f"{suite} tests; log: {log}")
        cases += testrun.run(
            [str(made.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests / folder)],
            environ=made.environment(paths.tree_dir(patch_set.name), runtime.standin_dir()),
            folder=tests.parent,
            log=log,
            limit=_LIMIT_S,
        )
    return cases
