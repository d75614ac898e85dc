# SPDX-License-Identifier: Apache-2.0
"""Whether processes that wait for each other still do anything.

Nothing here is a wall-clock limit on work: a loaded machine makes everything late, and nothing of it wrong. A process
that waits sleeps and does not wake; one that is kept from the CPU is runnable; one that computes uses CPU time, of
which a slow or loaded machine gives no more than a fast one.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

POLL = 0.1
"""Seconds between two looks."""

# Looks in a row at which every main thread slept, and had not woken since the look before. A paused machine makes none.
STILL_LOOKS = 30
# While engines start they may wait by the clock for what comes later.
STILL_LOOKS_AT_START = 300
# The same, of main threads that wake now and then and do nothing that they report.
IDLE_LOOKS = 600
# CPU seconds of each process for one phase (a start, all rounds), many times what the slowest needs.
CPU_LIMIT = 600.0
# Any number of processes may look now and then whether there is something to do: each uses less than this share of one
# CPU. One that computes uses more, or waits for the CPU.
_IDLE_SHARE = 0.05
_SLEEPS = "S"


class Vigil:
    """Looks at ``processes`` every `POLL` seconds, or less often, as `look` is called.

    Attributes:
        still_looks: after how many still looks they are given up.
    """

    def __init__(self, processes: Sequence[int], still_looks: int = STILL_LOOKS) -> None:
        self.still_looks = still_looks
        self._pids = tuple(processes)
        self._families = [psutil.Process(pid) for pid in processes if psutil.pid_exists(pid)]
        self._idle_cpu = self._cpu_seconds()
        self._started_with = self._total = sum(self._idle_cpu.values())
        self._woken: tuple[str | None, ...] = ()
        self._still = self._idle = 0
        self._heard = -1.0
        self._idle_since = time.monotonic()

    def look(self, heard: float) -> str | None:
        """Why nothing is to be waited for, or None; ``heard`` grows with each sign of life."""
        now, cpu = time.monotonic(), self._cpu_seconds()
        woken = tuple(_sleep(pid) for pid in self._pids)
        idles_with = _IDLE_SHARE * (now - self._idle_since) + 0.2
        computes = any(used - self._idle_cpu.get(process, 0.0) > idles_with for process, used in cpu.items())
        # What an ended process used is lost where its parent has ended, too.
        self._total = max(self._total, sum(cpu.values()))
        if computes or heard != self._heard:
            self._still = self._idle = 0
            self._idle_since, self._idle_cpu, self._heard = now, cpu, heard
        elif None in woken:  # runnable: a loaded machine lets even one that only looks at the clock wait for the CPU
            self._still = 0
        else:
            # A child may compute for a main thread that sleeps, and wait for the CPU.
            self._idle += not any(_sleep(process.pid) is None for process in cpu)
            self._still = self._still + 1 if woken == self._woken else 0
        self._woken = woken
        if self._still >= self.still_looks:
            return f"every rank sleeps, and none has woken at {self._still} looks"
        if self._idle >= IDLE_LOOKS:
            return f"no step and no CPU use at {self._idle} looks"
        if self._total - self._started_with > CPU_LIMIT * len(self._pids):
            return f"more than {CPU_LIMIT:.0f} s of CPU time for each rank"
        return None

    def _cpu_seconds(self) -> dict[psutil.Process, float]:
        """CPU time of each of the processes and their living children, with that of the ended it has waited for."""
        used = {}
        for family in self._families:
            with contextlib.suppress(psutil.Error):
                for process in (family, *family.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = process.cpu_times()
                        used[process] = times.user + times.system + times.children_user + times.children_system
        return used


def _sleep(pid: int) -> str | None:
    """What a main thread's sleep is told by: how often it was switched out so far. None where it does not sleep; of a
    process that has ended, nothing changes any more."""
    try:
        lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    except OSError:
        return "ended"
    found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if found["State"][0] == "Z":
        return "ended"
    switches = f"{found['voluntary_ctxt_switches']} {found['nonvoluntary_ctxt_switches']}"
    return switches if found["State"][0] == _SLEEPS else None
