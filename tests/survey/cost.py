# SPDX-License-Identifier: Apache-2.0
"""What a process and its children cost: CPU time and memory."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil


def _kib(pid: int, name: str) -> int:
    """A figure of /proc/<pid>/status; 0 where there is none, as of a process that has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


@dataclass(frozen=True)
class Meter:
    """Looks at process ``pid``, which held ``began_kib`` when it began, and at its children."""

    pid: int
    began_kib: int

    @classmethod
    def of(cls, pid: int | None = None) -> Meter:
        """Of a process that begins now; this one where none is named."""
        pid = pid or os.getpid()
        return cls(pid, _kib(pid, "VmRSS"))

    def cpu_seconds(self) -> float:
        total = 0.0
        for one in self._family():
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
        return total

    def grown_kib(self) -> int:
        """By how much the process has grown at the most, and how much its children have held."""
        return sum(_kib(one.pid, "VmHWM") for one in self._family()) - self.began_kib

    def _family(self) -> list[psutil.Process]:
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]
