# SPDX-License-Identifier: Apache-2.0
"""The driver can tell a hang from an answer, and leaves no process behind: without this, none of the rest counts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import engine
import engine_runs
import fork_server
import psutil
import pytest
import serving
import vigil
from engine import Outcome, Report
from fork_server import Spawner

# What every fake rank starts with; `say` reports as rank.py does.
PRELUDE = """
import json, os, subprocess, sys, time
rank = int(os.environ["VLLM_DP_RANK"])
progress = open(json.load(open(sys.argv[1]))["progress"], "w")
def say(**line):
    print(json.dumps(line), file=progress, flush=True)
"""
ANSWERS = 'say(ready=0.0); say(step=1); say(round="one prompt", tokens={"0": [7]} if rank == 0 else {}); say(done=True)'
WAITS = 'child = subprocess.Popen(["sleep", "600"]); say(ready=0.0, child=child.pid); time.sleep(600)'
COMPUTES = "say(ready=0.0); end = time.time() + 4\nwhile time.time() < end: pass\n" + ANSWERS
# The other sleeps, as in a collective, until a file says that this one has done its work.
ONE_COMPUTES = """
say(ready=0.0)
os.path.exists("../pipe") or rank or os.mkfifo("../pipe")
if rank:
    while not os.path.exists("../pipe"): pass
    end = time.time() + 5
    while time.time() < end: pass
    open("../pipe", "w").close()
else:
    open("../pipe").close()
say(round="one prompt", tokens={}); say(done=True)
"""
STARVES = "say(ready=0.0); end = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n" + ANSWERS
WAKES = "say(ready=0.0)\nwhile True: time.sleep(0.01)"
SPINS = "say(ready=0.0)\nwhile True: pass"
# By children only, of which each ends soon: as torch's compiler, which asks other programs.
COMPUTES_BY_CHILDREN = f"""
say(ready=0.0)
for _ in range(0 if rank else 40):
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        while time.process_time() < 0.15: pass
        os._exit(0)
{ANSWERS}
"""
# Four children each use one part in thirty of a CPU, by a clock of CPU time: as workers that look into shared memory.
CHILDREN_POLL = """
parent = os.getpid()
for _ in range(4):
    if not os.fork():
        while os.getppid() == parent:
            end = time.process_time() + 0.03
            while time.process_time() < end: pass
            time.sleep(1.0)
        os._exit(0)
say(ready=0.0)
while True: time.sleep(0.5)
"""
DISAGREES = """
say(ready=0.0); time.sleep(0.5)
if rank: raise RuntimeError("EnforceNotMet: op.preamble.length <= op.nbytes")
time.sleep(600)
"""
FAILS_ON_ITS_OWN = """
say(ready=0.0); time.sleep(0.5)
raise RuntimeError("Connection closed by peer" if rank else "no such operator")
"""
FAILS_TO_START = 'raise RuntimeError("EnforceNotMet: op.preamble.length <= op.nbytes")'

pytestmark = pytest.mark.shared


def run(folder: Path, body: str) -> Report:
    script = folder / "rank.py"
    script.write_text(PRELUDE + body)
    return engine.run(engine_runs.PRISTINE_EAGER, folder, folder / "run", Spawner(script, os.environ))


def test_an_answer(tmp_path: Path) -> None:
    report = run(tmp_path, ANSWERS)
    assert report.outcome is Outcome.DONE, report
    assert report.tokens("one prompt") == {0: [7]}


def test_a_hang_and_no_orphan(tmp_path: Path) -> None:
    report = run(tmp_path, WAITS)
    assert report.outcome is Outcome.HANG, report
    children = [line["child"] for rank in report.ranks for line in rank.lines if "child" in line]
    assert len(children) == 2
    assert not [pid for pid in children if _runs(pid)]


def test_long_computing_is_no_hang(tmp_path: Path) -> None:
    assert run(tmp_path, COMPUTES).outcome is Outcome.DONE


def test_waiting_for_one_that_computes_is_no_hang(tmp_path: Path) -> None:
    report = run(tmp_path, ONE_COMPUTES)
    assert report.outcome is Outcome.DONE, report


def test_waking_and_doing_nothing_is_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "IDLE_LOOKS", 40)
    report = run(tmp_path, WAKES)
    assert report.outcome is Outcome.HANG and "no step and no CPU use" in report.why, report


@pytest.mark.parametrize("share", [vigil._IDLE_SHARE, 1000.0])
def test_computing_by_children_that_end_is_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Nor where the machine is so loaded that they get less than the share."""
    monkeypatch.setattr(vigil, "_IDLE_SHARE", share)
    monkeypatch.setattr(vigil, "IDLE_LOOKS", 20)
    monkeypatch.setattr(engine, "STILL_LOOKS", 10_000)
    report = run(tmp_path, COMPUTES_BY_CHILDREN)
    assert report.outcome is Outcome.DONE, report


def test_children_that_poll_are_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are."""
    monkeypatch.setattr(vigil, "IDLE_LOOKS", 60)
    monkeypatch.setattr(vigil, "CPU_LIMIT", 10.0)
    report = run(tmp_path, CHILDREN_POLL)
    assert report.outcome is Outcome.HANG and "no step and no CPU use" in report.why, report


def test_computing_for_ever_is_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "CPU_LIMIT", 1.0)
    report = run(tmp_path, SPINS)
    assert report.outcome is Outcome.HANG and "CPU time" in report.why, report


def test_a_rank_that_is_kept_from_the_cpu_is_no_hang(tmp_path: Path) -> None:
    """At the lowest priority, beside others that never rest."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        report = run(tmp_path, "os.nice(19)\n" + STARVES)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert report.outcome is Outcome.DONE, report


def test_gloo_disagreement_is_an_abort(tmp_path: Path) -> None:
    report = run(tmp_path, DISAGREES)
    assert report.outcome is Outcome.ABORT, report
    assert "EnforceNotMet" in report.ranks[1].log_tail


def test_an_error_of_one_rank_is_no_disagreement(tmp_path: Path) -> None:
    """Though it breaks the other's connection."""
    report = run(tmp_path, FAILS_ON_ITS_OWN)
    assert report.outcome is Outcome.ERROR, report


def test_a_failed_start_shows_nothing(tmp_path: Path) -> None:
    """Even where its message looks like a disagreement."""
    report = run(tmp_path, FAILS_TO_START)
    assert report.outcome is Outcome.ERROR, report
    assert not report.ready


@pytest.mark.parametrize(
    ("why", "taken", "starts"), [("EADDRINUSE", 2, 3), ("EADDRINUSE", 3, None), ("no such model", 1, None)]
)
def test_a_server_that_lost_its_port_starts_again(tmp_path: Path, why: str, taken: int, starts: int | None) -> None:
    """At most twice, and for no other reason."""
    port = engine.first_free_port(1)
    (tmp_path / "server.py").write_text(f"""
import http.server, pathlib, sys
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
count = len(list(pathlib.Path().glob("start*"))) + 1
pathlib.Path(f"start{{count}}").touch()
if count <= {taken}:
    sys.exit("{why}")
http.server.HTTPServer(("127.0.0.1", {port}), Healthy).serve_forever()
""")
    launcher = Spawner(tmp_path / "server.py", os.environ)
    if starts is None:
        with pytest.raises(RuntimeError, match=why):
            serving.start_healthy(port, launcher, tmp_path, {})
        assert len(list(tmp_path.glob("start*"))) == taken
    else:
        fork_server.end(launcher, serving.start_healthy(port, launcher, tmp_path, {}))
        assert len(list(tmp_path.glob("start*"))) == starts


def test_a_rank_dies_with_its_driver(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text("import time; time.sleep(600)")
    path, folder = repr(str(engine.RANK.parent)), repr(str(tmp_path))
    driver = f"""
import os, pathlib, sys
sys.path.insert(0, {path})
import fork_server
folder = pathlib.Path({folder})
print(fork_server.Spawner(folder / "rank.py", os.environ).start(folder, {{}}), flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        rank = int(process.stdout.readline())
        assert _runs(rank)
        process.kill()
    deadline = time.monotonic() + 10.0
    while _runs(rank) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(rank)


def test_a_rank_is_not_taken_for_an_earlier_one_with_its_process_id(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter([(7, 3 << 8), (0, 0)])
    monkeypatch.setattr(fork_server, "_start", lambda folder, environment: 7)
    monkeypatch.setattr(os, "waitpid", lambda pid, options: next(waited))
    codes: dict[int, int] = {}
    start, poll = {"start": "rank0", "environment": {}}, {"poll": 7}
    said = [fork_server.answer(request, codes) for request in (start, poll, poll, start, poll)]
    assert said == [{"pid": 7}, {"code": 3}, {"code": 3}, {"pid": 7}, {"code": None}]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
