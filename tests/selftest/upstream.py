# SPDX-License-Identifier: Apache-2.0
"""Upstream's own unit tests, on the pristine and on the patched tree: no test may pass on the first alone."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.proof import runtime, testrun
from patchset.proof.runtime import Trees
from patchset.proof.testrun import Result
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal

LIMIT_S = 600.0
_TESTS = "tests/ut"
# Python's own traceback: pytest's parses the source, which fails within a test that has recursed too deep. And not this
# repository's settings.
_PYTEST = ("-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "-c", os.devnull)
# A pytest plugin. Upstream's tests leave ZeroMQ's contexts with open sockets; whenever Python comes to collect such a
# context, that waits for them for ever.
_PLUGIN = "upstreams_tests"
_LEAVES_CONTEXTS = """import sys, types
import zmq
zmq.Context.__del__ = lambda self: None
"""
# More of it for tests with a torch_npu of their own: what upstream's build writes for an A2.
_BUILT_FOR_A2 = """sys.modules["vllm_ascend._build_info"] = built = types.ModuleType("vllm_ascend._build_info")
built.__device_type__ = "A2"
"""


@dataclass(frozen=True)
class Comparison:
    """Ids of upstream's tests by what they did on the two trees; also in build/<set>/upstream-tests.json."""

    set_name: str
    # The same on either tree; skipped ones count as neither.
    both_pass: tuple[str, ...]
    both_fail: tuple[str, ...]
    regressions: tuple[str, ...]  # pass on the pristine tree and do not on the patched one
    fixed: tuple[str, ...]  # pass on the patched tree alone

    @property
    def ok(self) -> bool:
        """Whether tests passed and none passes on the pristine tree alone."""
        return bool(self.both_pass) and not self.regressions

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **vars(self)}


def compare(set_name: str, pristine: Mapping[str, Result], patched: Mapping[str, Result]) -> Comparison:
    """Sorts test ids by their results; a test that did not run on the patched tree did not pass there."""
    groups: defaultdict[tuple[bool, bool], list[str]] = defaultdict(list)
    for test in sorted(pristine.keys() | patched.keys()):
        before, after = pristine.get(test, Result.FAILED), patched.get(test, Result.FAILED)
        if not before is after is Result.SKIPPED:
            groups[before is Result.PASSED, after is Result.PASSED].append(test)
    sides = ((True, True), (False, False), (True, False), (False, True))
    return Comparison(set_name, *(tuple(groups[side]) for side in sides))


def run(patch_set: PatchSet, terminal: Terminal, *, offline: bool = False) -> Comparison:
    """Runs the sdist's unit tests on both trees, with the NPU's stand-in.

    A test that seems to have regressed is run again with its file alone, on both trees: upstream's
    tests share state within a process, so one may fail for what ran before it.

    Raises UsageError: the set has not been applied; Unavailable: the runtime could not be made; Findings: the tests did
    not come to an end.
    """
    both = runtime.both(patch_set, terminal, offline=offline)
    work = paths.build_dir(patch_set.name) / "upstream-tests"
    shutil.rmtree(work, ignore_errors=True)
    # The pristine tree's tests for both, and away from either tree, which would shadow the other.
    shutil.copytree(both.pristine / "tests", work / "tests")

    terminal.step("upstream's unit tests on the pristine tree")
    pristine = _results(both, both.pristine, work, "pristine", [_TESTS, "-n", "2", "--dist", "loadfile"])
    terminal.step("upstream's unit tests on the patched tree")
    patched = _results(both, both.patched, work, "patched", [_TESTS, "-n", "2", "--dist", "loadfile"])
    files = sorted({test.partition("::")[0] for test in compare("", pristine, patched).regressions})
    for number, file in enumerate(files):
        terminal.step(f"again on its own: {file}")
        pristine |= _results(both, both.pristine, work, f"pristine-{number}", [file])
        patched |= _results(both, both.patched, work, f"patched-{number}", [file])
    comparison = compare(patch_set.name, pristine, patched)
    report = paths.build_dir(patch_set.name) / "upstream-tests.json"
    report.write_text(json.dumps(comparison.as_dict(), indent=2) + "\n")
    return comparison


def show(comparison: Comparison, terminal: Terminal) -> None:
    rows = {
        "pass on both trees": comparison.both_pass,
        "fail on both trees": comparison.both_fail,
        "fixed: pass on the patched tree alone": comparison.fixed,
        "regressions: pass on the pristine tree alone": comparison.regressions,
    }
    counts = [(name, str(len(tests))) for name, tests in rows.items()]
    terminal.table(f"upstream's unit tests, {comparison.set_name}", ("tests that", "number"), counts, right="number")
    for test in comparison.regressions:
        terminal.note(f"regression: {test}")


def _results(both: Trees, tree: Path, work: Path, label: str, arguments: list[str]) -> dict[str, Result]:
    """Result by test id of one pytest run in `work` with `tree` on the import path."""
    more = _plugged(work)
    cases = testrun.run(
        [str(both.runtime.python), *_PYTEST, "--rootdir", str(work), "-p", _PLUGIN, *arguments],
        environ=both.runtime.environment(tree, both.standin) | {"OMP_NUM_THREADS": "1"} | more,
        folder=work,
        log=work / f"{label}.log",
        limit=LIMIT_S,
    )
    return {case.id: case.result for case in cases}


def _plugged(work: Path) -> dict[str, str]:
    """Writes the plugin; the environment that the tests need beside it.

    Where they bring a torch_npu of their own, that has no backend for torch to load, and stands in the place of ours,
    which says what was built for.
    """
    conftest = work / _TESTS / "conftest.py"
    own_npu = conftest.is_file() and 'sys.modules["torch_npu"] =' in conftest.read_text(encoding="utf-8")
    (work / f"{_PLUGIN}.py").write_text(_LEAVES_CONTEXTS + _BUILT_FOR_A2 * own_npu)
    return {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"} if own_npu else {}
