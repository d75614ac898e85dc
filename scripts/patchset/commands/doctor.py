# SPDX-License-Identifier: Apache-2.0
"""doctor: what this machine has and lacks."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from patchset.commands.menu import OFFLINE, Menu
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds this command."""
    one = menu.command("doctor", "say what this machine has and lacks, and what to do about it", doctor, OFFLINE)
    one.add_argument("--python", type=Path, metavar="FILE", help="the interpreter of a serving environment to look at")


def doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset doctor`."""
    from patchset.proof.doctor import ascend, machine
    from patchset.proof.doctor.finding import Verdict
    from patchset.sets.setfile import load_set

    patch_set = load_set(arguments.set)
    terminal.step("looking at this machine")
    findings = [
        *machine.look(patch_set, offline=arguments.offline),
        *ascend.look(patch_set, python=arguments.python),
    ]
    width = max(len(one.subject) for one in findings)
    for one in findings:
        terminal.note(f"{one.verdict.value:<8}{one.subject:<{width}}  {one.found}")
        if one.advice:
            terminal.note(f"{'':<8}{'':<{width}}  needed for {one.needed_for}; {one.advice}")
    lacking = [one.subject for one in findings if one.verdict is Verdict.LACKS]
    terminal.note(f"lacking: {', '.join(lacking)}" if lacking else "nothing is lacking")
    listed = [asdict(one) | {"verdict": one.verdict.value} for one in findings]
    terminal.document({"set": patch_set.name, "lacking": lacking, "findings": listed})
    return 1 if lacking else 0
