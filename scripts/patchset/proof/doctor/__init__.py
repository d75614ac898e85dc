# SPDX-License-Identifier: Apache-2.0
"""What this machine has and lacks for the set's commands, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How it stands with one thing."""

    OK = "ok"
    LACKS = "lacks"  # a command that every machine should be able to run would fail
    ABSENT = "absent"  # not there, and only needed for what `needed_for` says


@dataclass(frozen=True)
class Finding:
    """One row."""

    subject: str
    verdict: Verdict
    found: str  # a version, a path, an amount, or why it cannot be used
    needed_for: str  # the commands that need it
    advice: str = ""  # what to do; empty where it is there
