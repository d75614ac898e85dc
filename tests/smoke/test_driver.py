# SPDX-License-Identifier: Apache-2.0
"""The driver can tell a hang from an answer, and leaves no process behind: without this, none of the rest counts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import engine
import lives
import psutil
import pytest
from engine import Outcome, Report

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
DISAGREES = """
say(ready=0.0); time.sleep(0.5)
if rank: raise RuntimeError("EnforceNotMet: op.preamble.length <= op.nbytes")
time.sleep(600)
"""
FAILS_TO_START = 'raise RuntimeError("Connection reset by peer")'


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SILENCE_LIMIT", 2.0)


def run(folder: Path, body: str) -> Report:
    script = folder / "rank.py"
    script.write_text(PRELUDE + body)
    return engine.run(lives.PRISTINE_EAGER, folder, folder / "life", os.environ, script)


def test_an_answer(tmp_path: Path) -> None:
    report = run(tmp_path, ANSWERS)
    assert report.outcome is Outcome.DONE, report
    assert report.tokens("one prompt") == {0: [7]}


def test_a_hang_and_no_orphan(tmp_path: Path) -> None:
    report = run(tmp_path, WAITS)
    assert report.outcome is Outcome.HANG, report
    assert report.seconds < 10.0
    children = [line["child"] for rank in report.ranks for line in rank.lines if "child" in line]
    assert len(children) == 2
    assert not [pid for pid in children if _runs(pid)]


def test_long_computing_is_no_hang(tmp_path: Path) -> None:
    assert run(tmp_path, COMPUTES).outcome is Outcome.DONE


def test_gloo_disagreement_is_an_abort(tmp_path: Path) -> None:
    report = run(tmp_path, DISAGREES)
    assert report.outcome is Outcome.ABORT, report
    assert "EnforceNotMet" in report.ranks[1].log_tail


def test_a_failed_start_shows_nothing(tmp_path: Path) -> None:
    """Even where its message looks like a disagreement."""
    report = run(tmp_path, FAILS_TO_START)
    assert report.outcome is Outcome.ERROR, report
    assert not report.ready


def test_a_rank_dies_with_its_driver(tmp_path: Path) -> None:
    path = repr(str(engine.RANK.parent))
    code = f"import sys, time; sys.path.insert(0, {path}); import rank; rank._die_with_the_driver(); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    time.sleep(0.5)
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 113


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
