# SPDX-License-Identifier: Apache-2.0
"""The real process, killed: before each system call that changes the disk (strace), and at any moment.

`make crash` kills at every call and at 300 moments; `make test` takes a sample of both (PATCHSET_KILLS).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from test_crash import Case, check_whole

from patchset import cli

# The calls of our own process that change names, contents or modes. git's processes are its own matter: while one runs
# we wait, so that we are killed before or after it.
CALLS = (
    "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,"
    "truncate,ftruncate,write,pwrite64,copy_file_range,sendfile,fsync,utimensat"
)
MOMENTS = {"few": 6, "all": 60}[os.environ.get("PATCHSET_KILLS", "few")]  # of each of five scenarios
STRIDE = {"few": 15, "all": 1}[os.environ.get("PATCHSET_KILLS", "few")]

SCENARIOS = [
    ("build", "apply"),
    ("checkout", "apply"),
    ("checkout", "revert"),
    ("site-packages", "apply"),
    ("site-packages", "revert"),
]


class Killing:
    """A scenario whose command is started as a process of its own, killed, and looked at."""

    def __init__(self, folder: Path, kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.case, self.name, self.capsys = Case(folder, kind), name, capsys
        self.case.place.mkdir(parents=True, exist_ok=True)
        if name == "apply":
            self.case.save()
        assert cli.main(self.case.command("apply")) == 0
        self.patched = self.case.read()
        if name == "revert":
            self.case.save()
        self.command = [sys.executable, "-m", "patchset", *self.case.command(name)]
        self.environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *prefix: str) -> subprocess.Popen[bytes]:
        self.case.restore()
        self.before = self.case.read()
        null = subprocess.DEVNULL
        return subprocess.Popen(
            [*prefix, *self.command], stdout=null, stderr=null, env=self.environment, start_new_session=True
        )

    def check(self, what: str, *, onward: bool) -> None:
        """The target is whole, or says that it is not; the next command finishes the job or takes it back."""
        case = self.case
        check_whole(case, self.patched, self.before, self.capsys)
        follow = self.name if onward else {"apply": "revert", "revert": "apply"}[self.name]
        assert cli.main(case.command(follow)) == 0, what
        ended = case.read()
        if follow == "apply":
            assert ended == self.patched, what
        else:
            assert ended == (case.upstream if case.target.exists() else {}), what


@pytest.fixture
def killing(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Killing:
    monkeypatch.setenv("PATCHSET_ROOT", str(tmp_path / "repo"))
    return Killing(tmp_path, *request.param, capsys)


each_scenario = pytest.mark.parametrize("killing", SCENARIOS, ids="-".join, indirect=True)


@pytest.mark.timeout(1800)
@each_scenario
def test_killed_before_every_call_that_changes_the_disk(killing: Killing, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    log = tmp_path / "calls"
    assert killing.start("strace", "-qq", "-o", str(log), "-e", f"trace={CALLS}").wait() == 0
    killing.check("not killed", onward=True)
    names = Counter(re.findall(r"(?m)^(\w+)\(", log.read_text()))
    points = [(name, number) for name, count in sorted(names.items()) for number in range(1, count + 1)]
    assert len(points) > 40
    for place, (name, number) in enumerate(points[::STRIDE]):
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        code = killing.start("strace", "-qq", "-o", os.devnull, "-e", f"trace={name}", "-e", inject).wait()
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{name} {number}: ended with {code}"
        killing.check(f"killed before {name} {number}", onward=place % 2 == 0)


@pytest.mark.timeout(1800)
@each_scenario
def test_killed_at_any_moment(killing: Killing) -> None:
    begin = time.monotonic()
    assert killing.start().wait() == 0
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
