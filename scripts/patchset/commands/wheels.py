# SPDX-License-Identifier: Apache-2.0
"""wheels: what is made for a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path

from patchset.commands.menu import OFFLINE, Menu
from patchset.node.errors import UsageError
from patchset.sets.setfile import load_set
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.command("wheels", "make patched wheels, with an index, in dist/<set>/", wheels, OFFLINE)
    one.add_argument("--local", metavar="LABEL", default="dp.1", help="local version label (default: dp.1)")
    one.add_argument(
        "--from",
        dest="origin",
        choices=("wheels", "source"),
        default="wheels",
        help="repack the published wheels (default), or build the patched tree",
    )
    one.add_argument(
        "--upstream",
        type=Path,
        metavar="PATH",
        help="a wheelhouse or a published wheel; with --from source, an sdist, a directory or a git checkout",
    )
    one.add_argument(
        "--python", type=Path, metavar="PATH", help="with --from source: the interpreter that has what the build needs"
    )
    one.add_argument(
        "--sign",
        type=Path,
        metavar="KEY",
        help="sign SHA256SUMS with this minisign secret key; its password is asked for, or PATCHSET_KEY_PASSWORD",
    )


def wheels(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset wheels`."""
    from patchset.wheels import build, from_source, make, repack

    patch_set = load_set(arguments.set)
    version = build.local_version(patch_set.ascend.version, arguments.local)
    if arguments.origin == "source":
        drafts = from_source.drafts(
            patch_set,
            version,
            upstream=arguments.upstream,
            python=arguments.python,
            offline=arguments.offline,
            terminal=terminal,
        )
    elif arguments.python:
        raise UsageError("--python is for --from source", hint="patchset wheels --help")
    else:
        drafts = repack.drafts(
            patch_set, version, upstream=arguments.upstream, offline=arguments.offline, terminal=terminal
        )
    outcome = make.run(patch_set, version, drafts, key=arguments.sign)
    make.show(outcome, terminal)
    return 0
