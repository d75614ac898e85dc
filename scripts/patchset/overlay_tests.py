# SPDX-License-Identifier: Apache-2.0
"""The overlay's own tests, run where its code runs: with torch, vLLM, the stand-in and the patched tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import paths, runtime, testrun

if TYPE_CHECKING:
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal
    from patchset.testrun import Case

_LIMIT_S = 600.0


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> list[Case]:
    """Runs tests/overlay; the output goes to build/<set>/overlay-tests.log.

    Raises:
        Unavailable: the runtime could not be made.
        Findings: the tests did not come to an end.
    """
    made = runtime.ensure(patch_set, terminal, offline=offline)
    root = paths.repo_root()
    log = paths.build_dir(patch_set.name) / "overlay-tests.log"
    terminal.step(f"overlay tests; log: {log}")
    return testrun.run(
        [str(made.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(root / "tests" / "overlay")],
        environ=made.environment(paths.tree_dir(patch_set.name), runtime.standin_dir()),
        folder=root,
        log=log,
        limit=_LIMIT_S,
    )
