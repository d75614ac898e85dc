# SPDX-License-Identifier: Apache-2.0
"""verify and keygen: what a build is held to, and who vouches for it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from patchset import paths
from patchset.setfile import load_set
from patchset.verify import options

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.terminal import Terminal
    from patchset.verify.expected import Expected


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.bare("verify", "check wheels, an installation, a tree or dist/<set>, file by file, offline", verify)
    options.declare(one)
    one.add_argument("--set", metavar="SET", help="the set that it must be of (default: the one that it names)")
    one = menu.bare("keygen", "make a key for signing wheels, as minisign does", keygen)
    one.add_argument("file", type=Path, metavar="FILE", help="the secret key; the public one becomes FILE.pub")
    one.add_argument("--no-password", action="store_true", help="do not protect the secret key with a password")


def verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset verify`."""
    from patchset.verify import command

    @lru_cache
    def lookup(name: str) -> Expected | None:
        from patchset.wheels import verifier

        sets = [load_set(one) for one in ([arguments.set] if arguments.set else paths.sets())]
        meant = sets if arguments.set or not name else [one for one in sets if name in (one.name, one.ascend.version)]
        return verifier.expect(meant[0], cached=True) if len(meant) == 1 else None

    verdicts = command.run(arguments, lookup)
    for verdict in verdicts:
        for line in command.lines(verdict):
            terminal.note(line)
    terminal.document(command.document(verdicts))
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def keygen(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset keygen`."""
    from patchset.wheels import signing

    public = signing.generate(arguments.file, protected=not arguments.no_password)
    terminal.note(f"{arguments.file}: the secret key; keep it")
    terminal.note(f"{arguments.file}.pub: the public key, id {public.name}")
    terminal.note(f"check with: patchset verify --dist DIR --key {public.text}")
    terminal.document({"command": "keygen", "secret": str(arguments.file), "public": public.text, "id": public.name})
    return 0
