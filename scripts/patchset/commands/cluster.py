# SPDX-License-Identifier: Apache-2.0
"""cluster: what the nodes of a Ray cluster have, and whether the ranks on them agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from patchset.cluster.node import options
from patchset.setfile import load_set, only_set

if TYPE_CHECKING:
    import argparse

    from patchset.cluster.node.expected import Expected
    from patchset.menu import Menu
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    cluster = menu.group("cluster", "check the nodes of a Ray cluster", options.HOW)
    one = cluster.command("verify", options.VERIFY, check, optional_set=True)
    options.add_verify(one)
    _python(one)
    one = cluster.command("smoke", options.SMOKE, check, optional_set=True)
    options.add_smoke(one)
    _python(one)
    one = cluster.command("kit", "write both checks and what they expect into one file", kit, optional_set=True)
    one.add_argument("--out", type=Path, metavar="FILE", help="default: build/<set>/patchset-cluster.pyz")
    _expect(one)


def check(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001 - the kit prints
    """`patchset cluster verify` and `patchset cluster smoke`."""
    from patchset.cluster import run

    words = [arguments.action, *options.words(arguments), *(["--json"] if arguments.json else [])]
    return run.run(arguments.python, words, _expected(arguments))


def kit(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset cluster kit`."""
    from patchset import disk, paths
    from patchset.cluster import kit

    expected = _expected(arguments)
    out = arguments.out or paths.build_dir(expected.set) / kit.NAME
    disk.make_folder(out.parent)
    disk.write(out, kit.build(expected), mode=0o644)
    terminal.note(f"{out}\non a node: python {out.name} verify")
    terminal.document({"command": "cluster kit", "file": str(out), "fingerprint": expected.fingerprint})
    return 0


def _python(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--python",
        default="python3",
        metavar="PYTHON",
        help="the interpreter that vLLM runs on; it needs Ray and no patchset (default: python3)",
    )
    _expect(sub)


def _expect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--expect-from",
        choices=("set", "dist"),
        default="set",
        help="what nodes must have: the set's build, or the very wheels in dist/<set>/ (default: set)",
    )


def _expected(arguments: argparse.Namespace) -> Expected:
    from patchset.cluster import expect

    patch_set = load_set(arguments.set or only_set())
    return expect.from_dist(patch_set) if arguments.expect_from == "dist" else expect.from_set(patch_set)
