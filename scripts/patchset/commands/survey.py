# SPDX-License-Identifier: Apache-2.0
"""survey: the patched tree against upstream's on deployments that are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.menu import at_least

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds this command."""
    one = menu.command("survey", "compare both trees on deployments that are drawn", survey)
    one.add_argument("--count", type=at_least(1), default=60, metavar="N", help="how many (default: 60)")
    one.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="what they are drawn from (default: 0)")
    one.add_argument("--only", metavar="LINES", help="these deployments instead: departures of each, as name=value,..")
    one.add_argument("--found", action="store_true", help="those of tests/survey/found.toml instead")
    one.add_argument("--as-drawn", action="store_true", help="do not reduce those that are worse")
    menu.offline(one)


def survey(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset survey`."""
    from patchset import survey as room
    from patchset.commands.proof import applied

    report = room.run(
        applied(arguments.set, terminal, offline=arguments.offline),
        terminal,
        count=arguments.count,
        seed=arguments.seed,
        only=arguments.only,
        found=arguments.found,
        reduce=not arguments.as_drawn,
        offline=arguments.offline,
    )
    room.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1
