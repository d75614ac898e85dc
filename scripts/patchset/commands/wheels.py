# SPDX-License-Identifier: Apache-2.0
"""wheels: what is made for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from patchset.setfile import load_set

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.command("wheels", "make patched wheels from the published ones, with an index, in dist/<set>/", wheels)
    one.add_argument("--local", metavar="LABEL", default="dp.1", help="local version label (default: dp.1)")
    one.add_argument("--upstream", type=Path, metavar="PATH", help="a wheelhouse or a published wheel")
    one.add_argument("--sign", type=Path, metavar="KEY", help="sign SHA256SUMS with this minisign secret key")
    menu.offline(one)


def wheels(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset wheels`."""
    from patchset.wheels import make

    outcome = make.run(
        load_set(arguments.set),
        local=arguments.local,
        upstream=arguments.upstream,
        offline=arguments.offline,
        terminal=terminal,
        key=arguments.sign,
    )
    make.show(outcome, terminal)
    return 0
