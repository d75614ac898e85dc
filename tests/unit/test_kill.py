# SPDX-License-Identifier: Apache-2.0
"""The real process, killed: before each system call that changes the disk (strace), and at any moment.

`make crash` kills at every call and at 360 moments; `make test` takes a sample of both (PATCHSET_KILLS).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Capture
from killing import Scenario, scenario

# The calls of our own process that change names, contents or modes. git's processes are its own matter: while one runs
# we wait, so that we are killed before or after it.
CALLS = (
    "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,"
    "truncate,ftruncate,write,pwrite64,copy_file_range,sendfile,fsync,utimensat"
)
ALL = os.environ.get("PATCHSET_KILLS", "few") == "all"
MOMENTS = 30 if ALL else 3  # of each scenario
CALLS_OF_FEW = 5

SCENARIOS = [
    ("build", "apply"),
    ("build", "revert"),
    ("checkout", "apply"),
    ("checkout", "revert"),
    ("site-packages", "apply"),
    ("site-packages", "revert"),
    ("wheels", "first"),
    ("wheels", "again"),
    ("port", "start"),
    ("port", "finish"),
    ("port", "abort"),
]


@pytest.fixture
def killing(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> Iterator[Scenario]:
    with scenario(tmp_path, *request.param, monkeypatch, capsys) as found:
        yield found


each_scenario = pytest.mark.parametrize("killing", SCENARIOS, ids="-".join, indirect=True)


@pytest.mark.timeout(1800)
@each_scenario
def test_killed_before_every_call_that_changes_the_disk(killing: Scenario, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    log = tmp_path / "calls"
    assert killing.start("strace", "-qq", "-o", str(log), "-e", f"trace={CALLS}").wait() == killing.code
    killing.check("not killed", onward=True)
    names = Counter(re.findall(r"(?m)^(\w+)\(", log.read_text()))
    points = [(name, number) for name, count in sorted(names.items()) for number in range(1, count + 1)]
    assert len(points) > 40
    chosen = points if ALL else points[:: len(points) // CALLS_OF_FEW]
    for place, (name, number) in enumerate(chosen):
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        code = killing.start("strace", "-qq", "-o", os.devnull, "-e", f"trace={name}", "-e", inject).wait()
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{name} {number}: ended with {code}"
        killing.check(f"killed before {name} {number}", onward=place % 2 == 0)


@pytest.mark.timeout(1800)
@each_scenario
def test_killed_at_any_moment(killing: Scenario) -> None:
    begin = time.monotonic()
    assert killing.start().wait() == killing.code
    whole = time.monotonic() - begin
    killing.check("not killed", onward=True)
    moments = random.Random(0)
    killed = 0
    while killed < MOMENTS:
        process = killing.start()
        begin = time.monotonic()
        try:
            process.wait(moments.uniform(whole / 3, whole))  # Python's own start is of no interest
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # it has ended just now
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killing.check(f"killed at moment {killed}", onward=killed % 2 == 0)
            killed += 1
        else:
            whole = time.monotonic() - begin  # the machine has become quicker than it was
