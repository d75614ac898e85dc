# SPDX-License-Identifier: Apache-2.0
"""The smoke tests: real vLLM with the pristine and the patched tree, on the NPU's stand-in or on NPUs."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node.manifest import sha256
from patchset.proof import gate, runtime, testrun
from patchset.proof.gate import Tier
from patchset.proof.runtime import Runtime
from patchset.proof.testrun import Case, Result
from patchset.sets import facts
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal

# What all sets have alike is tested on this one.
SHARED_ON = "v0.10.1.1"

# Many times what the suite takes on two cores: a loaded machine is slow, and not wrong.
LIMIT_S = 7200.0

_SHOWN = 12  # lines of a failure

# Modules that a folder of some sets' smoke tests may have for all tests of these sets.
_PLUGINS = ("for_this_set", "for_these_sets")

_OUTCOME = re.compile(r"(?P<test>\S+::.+?) (?P<outcome>PASSED|FAILED|ERROR|SKIPPED)\b")


@dataclass(frozen=True)
class Patched:
    """A patched package outside of the build tree: the folder that holds it, and the digest of its tree."""

    folder: Path
    tree: str


@dataclass(frozen=True)
class SmokeReport:
    """What a run of the smoke tests found; also in build/<set>/smoke.json."""

    set_name: str
    device: str
    cases: tuple[Case, ...]
    log: str  # the file with pytest's output
    tier: Tier | None = Tier.WHOLE  # None for a part that the caller has chosen

    @property
    def ok(self) -> bool:
        results = {case.result for case in self.cases}
        return Result.PASSED in results and Result.FAILED not in results

    @property
    def seconds(self) -> float:
        return sum(case.seconds for case in self.cases)

    def as_dict(self) -> dict[str, Any]:
        rows = []
        for case in self.cases:
            row = {"name": case.title, "mode": case.mode, "result": case.result.value}
            rows.append(row | {"seconds": round(case.seconds, 1), "why": case.why})
        what = {"set": self.set_name, "device": self.device, "tier": self.tier.value if self.tier else None}
        return what | {"ok": self.ok, "seconds": round(self.seconds, 1), "log": self.log, "rows": rows}


def run(
    patch_set: PatchSet,
    *,
    device: str,
    terminal: Terminal,
    tier: Tier = Tier.WHOLE,
    only: str | None = None,
    tests: tuple[str, ...] = (),
    offline: bool = False,
    patched: Patched | None = None,
) -> SmokeReport:
    """Runs tests/smoke on the set's trees, and writes down whether the tree has passed. The device is cpu for the NPU's
    stand-in, or npu; `patched` takes the place of the applied tree. `only`, a pytest -k expression, or the names of
    `tests` choose a part of the whole. Raises as `run_tests`."""
    part = bool(only or tests)
    select = ["--quick"] if tier is Tier.QUICK and not part else []
    if patch_set.name != SHARED_ON and not part:
        select += ["-m", "not shared"]
    about = gate.subject(patch_set.name, patched.tree if patched else patch_set.tree, device)
    if not part:
        gate.note(patch_set.name, about, tier, ok=False)  # until it has passed, also where this run is cut off
    select += ["-k", only] if only else []
    folder = patched.folder if patched else None
    how: dict[str, Any] = {"device": device, "terminal": terminal, "offline": offline, "patched": folder}
    cases, log = run_tests(patch_set, select=select, tests=tests, log_name="pytest.log", **how)
    report = SmokeReport(patch_set.name, device, tuple(cases), str(log), None if part else tier)
    if report.tier:
        gate.note(patch_set.name, about, tier, ok=report.ok)
    (paths.build_dir(patch_set.name) / "smoke.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def tests_dir() -> Path:
    return paths.repo_root() / "tests" / "smoke"


def run_tests(
    patch_set: PatchSet,
    *,
    device: str,
    terminal: Terminal,
    select: Sequence[str],
    log_name: str,
    tests: Sequence[str] = (),
    offline: bool = False,
    patched: Path | None = None,
) -> tuple[list[Case], Path]:
    """Runs the smoke tests that pytest's arguments ``select`` choose; their results, and where the log is. ``tests``
    are names from tests/smoke on; none for all. Raises UsageError where the set has not been applied; Unavailable where
    the runtime could not be made; Findings where the tests did not come to an end."""
    both = runtime.both(patch_set, terminal, offline=offline, patched=patched)
    made = both.runtime
    work = paths.build_dir(patch_set.name) / "smoke"
    work.mkdir(parents=True, exist_ok=True)
    log = work / log_name
    folder = tests_dir()
    command = [str(made.python), "-m", "pytest", "-v", "-c", str(folder / "pytest.ini"), f"--rootdir={folder}"]
    command += [str(folder / test) for test in tests] or [str(folder)]
    command += [f"--pristine={both.pristine}", f"--patched={both.patched}", f"--vllm={made.vllm}"]
    command += [f"--work={work}", f"--device={device}", f"--set={patch_set.name}", *select]
    if device == "cpu":
        command += [f"--kept={kept(patch_set, made)}"]
    where = "on NPUs" if device == "npu" else "on the NPU's stand-in"
    terminal.step(f"smoke tests: real vLLM, data parallel, {where}")
    arguments, more = _of_sets(folder, patch_set.name)
    how = {"environ": {**made.env, **more}, "folder": folder, "limit": LIMIT_S}
    return testrun.run([*command, *arguments], log=log, **how, each_line=lambda line: _tell(line, terminal)), log


def _of_sets(folder: Path, set_name: str) -> tuple[list[str], dict[str, str]]:
    """What the folders of few sets in tests/smoke ask for: pytest's arguments, and variables. A folder of this set may
    have a plugin for all of its tests; another set's is not looked at."""
    arguments, own = [], []
    for entry in sorted(folder.iterdir()):
        if facts.is_of_others(entry.name, set_name):
            arguments.append(f"--ignore={entry}")
        elif set_name in entry.name.split("+"):
            own.append(entry)
    for plugin in _PLUGINS:
        if any((entry / f"{plugin}.py").is_file() for entry in own):
            arguments += ["-p", plugin]
    return arguments, {"PYTHONPATH": os.pathsep.join(map(str, own))} if own else {}


def kept(patch_set: PatchSet, made: Runtime, *more: str) -> Path:
    """The cached results of these tests on upstream's release, for this runtime and machine, and what else counts."""
    pins = patch_set.manifest_sha256, patch_set.vllm.version
    parts = (*pins, made.stamp, gate.tests_digest(patch_set.name), platform.machine(), *more)
    return paths.cache_dir() / "pristine" / sha256(" ".join(parts).encode())


def show(report: SmokeReport, terminal: Terminal) -> None:
    rows = [(case.title, case.mode, case.result.value, f"{case.seconds:.1f}") for case in report.cases]
    terminal.table(f"smoke tests of {report.set_name}", ("check", "mode", "result", "seconds"), rows, right="seconds")
    for case in report.cases:
        if case.result is Result.FAILED:
            lines = case.why.splitlines()
            shown = "\n".join(lines[:_SHOWN] + ["..."] * (len(lines) > _SHOWN))
            terminal.note(f"{case.title} ({case.mode}): {shown}\n")
    if not report.ok:
        terminal.note(f"log: {report.log}")


def _tell(line: str, terminal: Terminal) -> None:
    if found := _OUTCOME.match(line):
        function, bracket, mode = found["test"].partition("::")[2].partition("[")
        name = function.removeprefix("test_").replace("_", " ")
        terminal.step(f"  {found['outcome'].lower()}: {name}{' ' if bracket else ''}{bracket}{mode}")
