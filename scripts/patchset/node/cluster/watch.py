# SPDX-License-Identifier: Apache-2.0
"""Runs one task of the driver in a process of its own, and ends that process when its time is up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from patchset.node import errors
from patchset.node.errors import Unavailable

Event = Mapping[str, Any]

_LOG_TAIL = 12
_LEAVE_S = 5.0

# The kit, or the folder of the package: what the driver imports patchset from.
_HOME = Path(__file__).parents[3]
_DRIVE = "import sys; sys.path.insert(0, sys.argv[1]); from patchset.node.cluster import driver; driver.main()"


def run(task: Mapping[str, Any], limit: float) -> list[Event]:
    """Runs a task of the driver; its events but the end, or those until it was killed, after `limit` seconds.

    The task's own limit is a little below. Raises the PatchsetError that the driver told, as it was there;
    Unavailable where it ended before its end: Ray aborts a process whose cluster is gone.
    """
    events: list[Event] = []
    # Ray has workers import from the folder of the driver too, so it runs in an empty one.
    with tempfile.TemporaryDirectory(prefix="patchset-cluster-") as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _DRIVE, str(_HOME), json.dumps({**task, "limit": 0.9 * limit})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            text=True,
            start_new_session=True,
        )
        killer = threading.Timer(limit, _kill, [process])
        killer.start()
        try:
            with process:
                assert process.stdout is not None
                for event in map(json.loads, process.stdout):
                    if "end" in event:
                        _leave(process)
                        return events
                    if "error" in event:
                        _leave(process)
                        raise _as_raised(event["error"])
                    events.append(event)
                in_time = killer.is_alive()
                process.wait()
        finally:
            killer.cancel()
            _kill(process)
        if in_time:
            log.seek(0)
            raise _ended_early(process.returncode, log.read())
        return events


def _leave(process: subprocess.Popen[str]) -> None:
    """Lets the driver take its leave of the cluster, for a short while."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LEAVE_S)
    _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _as_raised(error: Mapping[str, str]) -> errors.PatchsetError:
    kind = getattr(errors, error["kind"])
    raised: errors.PatchsetError = kind(error["message"], hint=error["hint"])
    return raised


def _ended_early(code: int, log: str) -> Unavailable:
    said = "\n  ".join(log.strip().splitlines()[-_LOG_TAIL:])
    hint = "`ray status` says whether the cluster is up; then run again"
    return Unavailable(f"the Ray driver ended with {code}\n  {said}", hint=hint)
