# SPDX-License-Identifier: Apache-2.0
"""verify: what a build is held to, and who vouches for it."""

from __future__ import annotations

import argparse
from functools import lru_cache

from patchset.commands.menu import Menu
from patchset.node import options
from patchset.node.expected import Expected
from patchset.sets.setfile import load_set
from patchset.system import paths
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.bare("verify", options.VERIFY, verify)
    options.add_verify(one)
    one.add_argument("--key", metavar="PUB", help="minisign public key, file or text, that must have signed --dist")
    one.add_argument("--set", metavar="SET", help="the set that it must be of (default: the one that it names)")


def verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset verify`."""
    from patchset.node.errors import UsageError
    from patchset.node.verify import command
    from patchset.wheels import minisign

    @lru_cache
    def lookup(name: str) -> Expected | None:
        from patchset.wheels import kit

        sets = [load_set(one) for one in ([arguments.set] if arguments.set else paths.sets())]
        meant = sets if arguments.set or not name else [one for one in sets if name in (one.name, one.ascend.version)]
        return kit.expect(meant[0], cached=True) if len(meant) == 1 else None

    if arguments.key and not arguments.dist:
        raise UsageError("--key goes with --dist")
    key = minisign.read_public_key(arguments.key) if arguments.key else None
    vouch = (lambda folder, sums: minisign.vouched(folder, sums, key)) if key else None
    verdicts = command.run(arguments, lookup, vouch)
    for verdict in verdicts:
        for line in command.lines(verdict):
            terminal.note(line)
    terminal.document(command.document(verdicts))
    return 0 if all(verdict.ok for verdict in verdicts) else 1
