# SPDX-License-Identifier: Apache-2.0
"""prove: the ranks' decisions over random schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.menu import at_least

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.terminal import Terminal

MODELS = ("patched", "pristine", "mutants")


def add(menu: Menu) -> None:
    """Adds this command."""
    one = menu.command("prove", "check the ranks' decisions over random schedules", prove)
    one.add_argument(
        "--schedules",
        type=at_least(1),
        default=100_000,
        metavar="N",
        help="schedules for the patched tree (default: 100000)",
    )
    one.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="what they are drawn from (default: 0)")
    one.add_argument(
        "--model", choices=MODELS, help="one of the patched tree, the pristine tree and broken overlays (default: all)"
    )
    menu.offline(one)


def prove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset prove`."""
    from patchset.commands.proof import applied
    from patchset.prove import report
    from patchset.prove.run import Model, run

    found = run(
        applied(arguments.set, terminal, offline=arguments.offline),
        terminal,
        schedules=arguments.schedules,
        seed=arguments.seed,
        only=Model(arguments.model) if arguments.model else None,
        offline=arguments.offline,
    )
    report.show(found, terminal)
    terminal.document(found.as_dict())
    return 0 if found.ok else 1
