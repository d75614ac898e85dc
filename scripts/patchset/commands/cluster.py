# SPDX-License-Identifier: Apache-2.0
"""cluster: what the nodes of a Ray cluster have, and whether the ranks on them agree."""

from __future__ import annotations

import argparse
from pathlib import Path

from patchset.commands.menu import Menu
from patchset.node import options
from patchset.sets.setfile import load_set, only_set
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    cluster = menu.group("cluster", options.CLUSTER, options.HOW)
    for name, summary, declare in (
        ("verify", options.CLUSTER_VERIFY, options.add_cluster_verify),
        ("smoke", options.CLUSTER_SMOKE, options.add_cluster_smoke),
    ):
        one = cluster.command(name, summary, check, optional_set=True)
        declare(one)
        one.add_argument(
            "--python",
            default="python3",
            metavar="PYTHON",
            help="the interpreter that vLLM runs on; it needs Ray and no patchset (default: python3)",
        )
        one.add_argument(
            "--expect-from",
            choices=("set", "dist"),
            default="set",
            help="what nodes must have: the set's build, or the very wheels in dist/<set>/ (default: set)",
        )
    one = cluster.command(
        "kit", "write all checks of a node, and what they expect, into one file", kit, optional_set=True
    )
    one.add_argument("--out", type=Path, metavar="FILE", help="default: build/<set>/patchset-node.pyz")


def check(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001 - the kit prints
    """`patchset cluster verify` and `patchset cluster smoke`."""
    from patchset.node.errors import UsageError
    from patchset.wheels import kit, publish

    patch_set = load_set(arguments.set or only_set())
    if arguments.expect_from == "dist":
        file = publish.folder(patch_set.name) / kit.NAME
        if not file.is_file():
            raise UsageError(f"{file} is not there", hint=f"make wheels VERSION={patch_set.name}")
        data = file.read_bytes()
    else:
        data = kit.build(kit.expect(patch_set))
    words = ["cluster", arguments.action, *options.words(arguments), *(["--json"] if arguments.json else [])]
    return kit.run(arguments.python, words, data)


def kit(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset cluster kit`."""
    from patchset.system import disk, paths
    from patchset.wheels import kit

    expected = kit.expect(load_set(arguments.set or only_set()))
    out = arguments.out or paths.build_dir(expected.set) / kit.NAME
    disk.make_folder(out.parent)
    disk.write(out, kit.build(expected), mode=0o644)
    terminal.note(f"{out}\non a node: python {out.name} cluster verify")
    terminal.document({"file": str(out), "fingerprint": expected.fingerprint})
    return 0
