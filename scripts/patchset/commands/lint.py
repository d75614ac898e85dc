# SPDX-License-Identifier: Apache-2.0
"""lint: the checks of patches, series, overlay and pins."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime

from patchset.commands.menu import OFFLINE, UPSTREAM, Menu
from patchset.node.errors import plural
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds this command."""
    one = menu.bare(
        "lint", "check the patches, the series, the overlay and the digests of sets", lint, UPSTREAM, OFFLINE
    )
    one.add_argument("sets", metavar="SET", nargs="*", help="folders of patches/; all of them by default")
    one.add_argument("--codes", action="store_true", help="print what each code means, and check nothing")
    one.add_argument(
        "--today",
        type=date.fromisoformat,
        default=None,
        metavar="DAY",
        help="the day that Review-By is held against (default: today, UTC)",
    )


def lint(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset lint`."""
    from patchset.authoring.lint import check
    from patchset.authoring.lint.findings import Code

    if arguments.codes:
        for code in Code:
            terminal.note(f"{code.id}  {code.label:17}  {code.summary}")
        terminal.document({code.id: {"name": code.label, "summary": code.summary} for code in Code})
        return 0
    report = check.run(
        arguments.sets,
        today=arguments.today or datetime.now(UTC).date(),
        upstream=arguments.upstream,
        offline=arguments.offline,
        terminal=terminal,
    )
    for finding in report.findings:
        terminal.note(str(finding))
    terminal.document(
        {
            "sets": list(report.sets),
            "patches": report.patches,
            "findings": [finding.as_dict() for finding in report.findings],
        }
    )
    terminal.step(
        f"{plural(len(report.findings), 'finding')} in {plural(report.patches, 'patch')} of {', '.join(report.sets)}"
    )
    return 1 if report.findings else 0
