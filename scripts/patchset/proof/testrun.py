# SPDX-License-Identifier: Apache-2.0
"""One run of pytest by another Python: bounded, watched, and read back case by case."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from patchset.node.errors import Findings


class Result(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Case:
    """One test."""

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
        """What was checked, in words."""
        return self.function.removeprefix("test_").replace("_", " ")

    @property
    def mode(self) -> str:
        """The model, engine mode and tree of the test; empty for a test without an engine."""
        return self.properties.get("mode", "")

    @property
    def function(self) -> str:
        """The name without parameters."""
        return self.name.partition("[")[0]


def run(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    folder: Path,
    log: Path,
    limit: float,
    each_line: Callable[[str], None] = lambda _: None,
) -> list[Case]:
    """Runs pytest, as `watched` does, and reads its report, beside the log; raises Findings where it has none."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = [*command, f"--junit-xml={report}", "-o", "junit_family=xunit1"]
    code = watched("the tests", command, environ=environ, folder=folder, log=log, limit=limit, each_line=each_line)
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
    """Runs a program in a process group of its own, with this environment alone; its exit code.

    After `limit` seconds the group is killed, and Findings raised, with the last line: under `-v`, pytest's test.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=dict(environ),
        text=True,
        errors="replace",
        start_new_session=True,
    )
    out_of_time = threading.Event()

    def end() -> None:
        out_of_time.set()
        _kill(process)

    timer = threading.Timer(limit, end)
    timer.start()
    last = ""
    try:
        with process, log.open("w") as file:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                last = line.strip() or last
                each_line(line.rstrip("\n"))
    finally:
        timer.cancel()
        _kill(process)
    if out_of_time.is_set():
        raise Findings(f"{what} took more than {limit:.0f} s and were stopped at: {last}", hint=f"read {log}")
    return process.returncode


def read(report: bytes) -> list[Case]:
    """The cases of a JUnit report, in its order."""
    return [_case(element) for element in ElementTree.fromstring(report).iter("testcase")]  # noqa: S314 - pytest wrote it for us


def _case(element: ElementTree.Element) -> Case:
    name = element.get("name", "")
    result, why = Result.PASSED, ""
    for tag, verdict in (("skipped", Result.SKIPPED), ("failure", Result.FAILED), ("error", Result.FAILED)):
        if (found := element.find(tag)) is not None:
            result, why = verdict, found.get("message", "")
    return Case(
        id=f"{element.get('file') or element.get('classname', '')}::{element.get('classname', '')}::{name}",
        name=name,
        result=result,
        seconds=float(element.get("time", "0")),
        why=why,
        properties={one.get("name", ""): one.get("value", "") for one in element.iter("property")},
    )


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
