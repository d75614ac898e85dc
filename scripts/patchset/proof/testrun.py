# SPDX-License-Identifier: Apache-2.0
"""One run of pytest by another Python: bounded, watched, and read back case by case."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from patchset.node.cluster.watch import bounded
from patchset.node.errors import Findings


class Result(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Case:
    id: str  # file, class and name, as pytest tells tests apart
    name: str  # the function with its parameters
    result: Result  # an error in a fixture counts as failed
    seconds: float  # wall-clock time
    why: str = ""  # the message of a failure, or the reason of a skip
    properties: Mapping[str, str] = field(default_factory=dict)  # what the test recorded

    @property
    def node(self) -> str:
        """File and name, as pytest takes them on its command line; of a test in no class."""
        return f"{self.id.partition('::')[0]}::{self.name}"

    @property
    def title(self) -> str:
        return self.function.removeprefix("test_").replace("_", " ")

    @property
    def mode(self) -> str:
        """The model, engine mode and tree of the test; empty for a test without an engine."""
        return self.properties.get("mode", "")

    @property
    def function(self) -> str:
        """The name without parameters."""
        return self.name.partition("[")[0]


def run(command: Sequence[str], *, log: Path, **how: Any) -> list[Case]:
    """Runs pytest, as `watched` does, and reads its report, beside the log; raises Findings where it has none."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = [*command, f"--junit-xml={report}", "-o", "junit_family=xunit1"]
    code = watched("the tests", command, log=log, **how)
    if not report.is_file():
        raise Findings(f"pytest ended with {code} and no report", hint=f"read {log}")
    return read(report.read_bytes())


def watched(
    what: str,
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    folder: Path,
    log: Path,
    limit: float,
    each_line: Callable[[str], None] = lambda _: None,
) -> int:
    """Runs a program in a process group of its own, with this environment alone; its exit code. After `limit` seconds
    the group is killed, and Findings raised, with the last line: under `-v`, pytest's test."""
    how = {"stderr": subprocess.STDOUT, "cwd": folder, "env": dict(environ), "errors": "replace"}
    last = ""
    with bounded(command, limit, **how) as (process, late), log.open("w") as file:
        for line in process.stdout or ():
            file.write(line)
            last = line.strip() or last
            each_line(line.rstrip("\n"))
        process.wait()
    if late.is_set():
        raise Findings(f"{what} took more than {limit:.0f} s and were stopped at: {last}", hint=f"read {log}")
    return process.returncode


def read(report: bytes) -> list[Case]:
    return [_case(element) for element in ElementTree.fromstring(report).iter("testcase")]  # noqa: S314 - pytest wrote it for us


def _case(element: ElementTree.Element) -> Case:
    name = element.get("name", "")
    result, why = Result.PASSED, ""
    for tag, verdict in (("skipped", Result.SKIPPED), ("failure", Result.FAILED), ("error", Result.FAILED)):
        if (found := element.find(tag)) is not None:
            result, why = verdict, found.get("message", "")
    where = element.get("classname", "")
    properties = {one.get("name", ""): one.get("value", "") for one in element.iter("property")}
    seconds = float(element.get("time", "0"))
    return Case(f"{element.get('file') or where}::{where}::{name}", name, result, seconds, why, properties)
