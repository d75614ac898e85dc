# SPDX-License-Identifier: Apache-2.0
"""Runs a program in a process of its own, and ends that process when its time is up; with it, a task of the driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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


@contextmanager
def bounded(
    command: Sequence[str], limit: float, **how: Any
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """A program, and whether its limit in seconds is over; its process group is killed then, or as the block ends."""
    how |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **how)
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(limit, end)
    timer.start()
    with process:
        try:
            yield process, late
        finally:
            timer.cancel()
            _kill(process)


def run(task: Mapping[str, Any], limit: float) -> list[Event]:
    """Runs a task of the driver; its events but the end, or those until it was killed, after `limit` seconds. The
    task's own limit is a little below. Raises the PatchsetError that the driver told, as it was there; Unavailable
    where it ended before its end: Ray aborts a process whose cluster is gone."""
    events: list[Event] = []
    # Ray has workers import from the folder of the driver too, so it runs in an empty one.
    with tempfile.TemporaryDirectory(prefix="patchset-cluster-") as folder, (Path(folder) / "log").open("w+") as log:
        command = [sys.executable, "-c", _DRIVE, str(_HOME), json.dumps({**task, "limit": 0.9 * limit})]
        with bounded(command, limit, stderr=log, cwd=folder) as (process, late):
            for event in map(json.loads, process.stdout or ()):
                if "end" not in event and "error" not in event:
                    events.append(event)
                    continue
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LEAVE_S)  # to take its leave of the cluster
                if "end" in event:
                    return events
                kind: type[errors.PatchsetError] = getattr(errors, event["error"]["kind"])
                raise kind(event["error"]["message"], hint=event["error"]["hint"])
            process.wait()
        if late.is_set():
            return events
        log.seek(0)
        said = "\n  ".join(log.read().strip().splitlines()[-_LOG_TAIL:])
        hint = "`ray status` says whether the cluster is up; then run again"
        raise Unavailable(f"the Ray driver ended with {process.returncode}\n  {said}", hint=hint)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
