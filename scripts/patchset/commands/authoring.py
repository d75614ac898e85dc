# SPDX-License-Identifier: Apache-2.0
"""export, fmt: how what a maintainer did with git, or by hand, becomes a set; lint, review: what others see of it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

from patchset.commands.menu import DRY_RUN, OFFLINE, UPSTREAM, Menu, told
from patchset.node.errors import plural
from patchset.sets.setfile import load_set
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    for name, summary, handler in (
        ("export", "write patches/SET and the overlay from the commits of the applied tree", export),
        ("fmt", "rewrite the patches of a set as git writes them; hunks are counted anew", fmt),
    ):
        one = menu.command(name, summary, handler, UPSTREAM, OFFLINE, DRY_RUN)
        one.option("--check", "", "as --dry-run, and exit 1 where something would change")
    what = "check the patches, the series, the overlay and the digests of sets"
    one = menu.bare("lint", what, lint, UPSTREAM, OFFLINE)
    one.add_argument("sets", metavar="SET", nargs="*", help="folders of patches/; all of them by default")
    one.option("--codes", "", "print what each code means, and check nothing")
    one.option(
        "--today", "DAY", "the day that Review-By is held against (default: today, UTC)", type=date.fromisoformat
    )
    what = "write the review of a set: one HTML page, and Markdown for a pull request"
    one = menu.command("review", what, review, UPSTREAM, OFFLINE)
    what = "show what became of this one: a set's name, a set's folder, or a git ref of this repository"
    one.option("--against", "SERIES", what)


def export(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.authoring import export

    outcome = export.run(load_set(arguments.set), **_options(arguments), terminal=terminal)
    if outcome.changed:
        verb = "wrote" if outcome.written else "would write"
        terminal.note(f"{verb} {plural(len(outcome.changed), 'file')}: {', '.join(outcome.changed)}")
    else:
        terminal.note(f"unchanged: patches/{arguments.set} holds the {plural(len(outcome.patches), 'commit')} already")
    for note in outcome.notes:
        terminal.note(f"note: {note}")
    terminal.note(f"tree:   {outcome.tree}")
    terminal.document({"set": arguments.set} | asdict(outcome))
    return 1 if arguments.check and outcome.changed else 0


def fmt(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.authoring import fmt

    outcome = fmt.run(load_set(arguments.set), **_options(arguments), terminal=terminal)
    verb = "rewrote" if outcome.written else "would rewrite"
    for name in outcome.changed:
        terminal.note(f"{verb} {name}")
    for note in outcome.notes:
        terminal.note(f"note: {note}")
    if not outcome.changed:
        terminal.note(f"unchanged: the patches of {arguments.set} are as git writes them")
    terminal.document({"set": arguments.set} | asdict(outcome))
    return 1 if arguments.check and outcome.changed else 0


def lint(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.authoring.lint import check
    from patchset.authoring.lint.findings import Code

    if arguments.codes:
        for code in Code:
            terminal.note(f"{code.id}  {code.label:17}  {code.summary}")
        terminal.document({code.id: {"name": code.label, "summary": code.summary} for code in Code})
        return 0
    today = arguments.today or datetime.now(UTC).date()
    report = check.run(arguments.sets, today=today, **told(arguments, "upstream", "offline"), terminal=terminal)
    for finding in report.findings:
        terminal.note(str(finding))
    found = [finding.as_dict() for finding in report.findings]
    terminal.document({"sets": list(report.sets), "patches": report.patches, "findings": found})
    terminal.step(f"{plural(len(found), 'finding')} in {plural(report.patches, 'patch')} of {', '.join(report.sets)}")
    return 1 if found else 0


def review(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.review import make
    from patchset.upstream.pristine import Source

    patch_set = load_set(arguments.set)
    source = Source(patch_set, given=arguments.upstream, offline=arguments.offline, terminal=terminal)
    outcome = make.run(patch_set, source, arguments.against, terminal, offline=arguments.offline)
    terminal.note(f"{outcome.html}\n{outcome.markdown}")
    terminal.document(outcome.as_dict())
    return 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return told(arguments, "upstream", "offline") | {"dry_run": arguments.dry_run or arguments.check}
