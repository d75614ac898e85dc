# SPDX-License-Identifier: Apache-2.0
"""prove: the ranks' decisions over random schedules."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from patchset.menu import Menu
    from patchset.terminal import Terminal

MODELS = ("patched", "pristine", "mutants")


def add(menu: Menu) -> None:
    """Adds this command."""
    one = menu.command("prove", "check the ranks' decisions over random schedules", prove)
    one.add_argument(
        "--schedules",
        type=_at_least(1),
        default=100_000,
        metavar="N",
        help="schedules for the patched tree (default: 100000)",
    )
    one.add_argument("--seed", type=_at_least(0), default=0, metavar="S", help="what they are drawn from (default: 0)")
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


def _at_least(least: int) -> Callable[[str], int]:
    """The type of a whole number with a lower bound."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return value

    return number
