# SPDX-License-Identifier: Apache-2.0
"""export, fmt and their like: how a maintainer changes a set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.setfile import load_set

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.command("export", "authors: write patches/SET from the commits of the applied tree", export)
    menu.source(one)
    menu.dry_run(one)
    one = menu.command("fmt", "authors: rewrite the patches of a set in their canonical form", fmt)
    menu.source(one)
    menu.dry_run(one)


def export(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset export`."""
    from patchset.authoring import export

    outcome = export.run(
        load_set(arguments.set),
        upstream=arguments.upstream,
        offline=arguments.offline,
        dry_run=arguments.dry_run,
        terminal=terminal,
    )
    verb = "wrote" if outcome.written else "would write"
    if outcome.changed:
        terminal.note(f"{verb} {len(outcome.changed)} files of patches/{arguments.set}: {', '.join(outcome.changed)}")
    else:
        terminal.note(f"unchanged: patches/{arguments.set} holds the {len(outcome.patches)} commits already")
    terminal.note(f"tree:   {outcome.tree}")
    terminal.document(
        {
            "command": "export",
            "set": arguments.set,
            "patches": list(outcome.patches),
            "changed": list(outcome.changed),
            "written": outcome.written,
            "tree": outcome.tree,
        }
    )
    return 0


def fmt(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset fmt`."""
    from patchset.authoring import fmt

    outcome = fmt.run(
        load_set(arguments.set),
        upstream=arguments.upstream,
        offline=arguments.offline,
        dry_run=arguments.dry_run,
        terminal=terminal,
    )
    verb = "rewrote" if outcome.written else "would rewrite"
    for name in outcome.changed:
        terminal.note(f"{verb} patches/{arguments.set}/{name}")
    if not outcome.changed:
        terminal.note(f"unchanged: the patches of {arguments.set} are canonical")
    terminal.document(
        {"command": "fmt", "set": arguments.set, "changed": list(outcome.changed), "written": outcome.written}
    )
    return 0
