# SPDX-License-Identifier: Apache-2.0
"""edit, refresh, new, drop, import, export, fmt: how a maintainer changes a set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from patchset.errors import UsageError
from patchset.setfile import load_set

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from patchset.authoring.actions import Author, Outcome
    from patchset.menu import Menu
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.command("edit", "authors: take the applied tree back to a patch, to change it there", edit)
    one.add_argument("patch", metavar="PATCH", nargs="?", help="its file name, or its number")
    _resumable(one)
    one = menu.command("refresh", "authors: take the tree's changes into the patch being edited, or PATCH", refresh)
    one.add_argument("patch", metavar="PATCH", nargs="?", help="its file name, or its number")
    _resumable(one)
    one = menu.command("new", "authors: make a patch of the tree's changes, after the others", new)
    one.add_argument("subject", metavar="SUBJECT", help="what the patch does, one line")
    one.add_argument("--body", metavar="TEXT", default="", help="why and how")
    one.add_argument("--author", metavar="'NAME <ADDRESS>'", default="", help="default: as git is configured")
    _fields(one)
    menu.dry_run(one)
    one = menu.command("drop", "authors: leave a patch out of the applied tree", drop)
    one.add_argument("patch", metavar="PATCH", nargs="?", help="its file name, or its number")
    _resumable(one)
    one = menu.command("import", "authors: add a patch file to the applied tree", bring)
    one.add_argument("file", metavar="FILE", nargs="?", type=Path, help="a patch of ours, or of git format-patch")
    _fields(one)
    _resumable(one)
    for name, summary, handler in (
        ("export", "authors: write patches/SET from the commits of the applied tree", export),
        ("fmt", "authors: rewrite the patches of a set in their canonical form", fmt),
    ):
        one = menu.command(name, summary, handler)
        menu.source(one)
        menu.dry_run(one)
        one.add_argument("--check", action="store_true", help="as --dry-run, and exit 1 where something would change")


def _resumable(one: argparse.ArgumentParser) -> None:
    one.add_argument("--continue", dest="go_on", action="store_true", help="go on after a conflict is resolved")
    one.add_argument("--abort", action="store_true", help="give the tree back as it was before")
    one.add_argument("--dry-run", action="store_true", help="try it on a copy of the tree, and change nothing")


def _fields(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--field", metavar="NAME=VALUE", action="append", default=[], type=_field, help="a field of the header; repeat"
    )


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value.strip():
        raise ValueError
    return name, value


def edit(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset edit`."""
    return _act(arguments, terminal, "patch", lambda author: author.edit(arguments.patch))


def refresh(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset refresh`."""
    return _act(arguments, terminal, "", lambda author: author.refresh(arguments.patch))


def drop(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset drop`."""
    return _act(arguments, terminal, "patch", lambda author: author.drop(arguments.patch))


def bring(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset import`."""
    return _act(arguments, terminal, "file", lambda author: author.bring(arguments.file, dict(arguments.field)))


def new(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset new`."""
    arguments.go_on = arguments.abort = False
    fields = dict(arguments.field)
    return _act(
        arguments,
        terminal,
        "subject",
        lambda author: author.new(arguments.subject, arguments.body, fields, arguments.author),
    )


def _act(arguments: argparse.Namespace, terminal: Terminal, needed: str, action: Callable[[Author], Outcome]) -> int:
    """Does one thing to the tree, or goes on with, or gives up, what is under way."""
    from patchset.authoring import actions, rework

    command, name = arguments.command, arguments.set
    if arguments.go_on and arguments.abort:
        raise UsageError("--continue and --abort exclude each other")
    if needed and not (arguments.go_on or arguments.abort or getattr(arguments, needed)):
        raise UsageError(f"{command} needs {needed.upper()}", hint=f"patchset {command} --help")
    with actions.author(load_set(name), dry_run=arguments.dry_run) as author:
        try:
            if arguments.go_on or arguments.abort:
                outcome = author.resume() if arguments.go_on else author.abandon()
            else:
                outcome = action(author)
        except rework.Conflict as conflict:
            conflict.hint = f"resolve it there, then patchset {command} {name} --continue; or --abort"
            if arguments.dry_run:
                conflict.hint = "this was a dry run on a copy; nothing was changed"
            raise
    if arguments.dry_run:
        terminal.note(f"dry run, nothing was changed: {outcome.result}")
    else:
        terminal.note(outcome.result)
        terminal.note(f"next: {outcome.next}")
    terminal.document(
        {
            "command": command,
            "set": name,
            "result": outcome.result,
            "patch": outcome.patch or None,
            "next": None if arguments.dry_run else outcome.next,
            "worktree": None if arguments.dry_run else str(outcome.worktree),
        }
    )
    return 0


def export(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset export`."""
    from patchset.authoring import export

    outcome = export.run(
        load_set(arguments.set),
        upstream=arguments.upstream,
        offline=arguments.offline,
        dry_run=arguments.dry_run or arguments.check,
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
    return 1 if arguments.check and outcome.changed else 0


def fmt(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset fmt`."""
    from patchset.authoring import fmt

    outcome = fmt.run(
        load_set(arguments.set),
        upstream=arguments.upstream,
        offline=arguments.offline,
        dry_run=arguments.dry_run or arguments.check,
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
    return 1 if arguments.check and outcome.changed else 0
