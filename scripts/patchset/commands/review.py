# SPDX-License-Identifier: Apache-2.0
"""review: the diff against upstream, for a person to read."""

from __future__ import annotations

import argparse

from patchset.commands.menu import OFFLINE, UPSTREAM, Menu
from patchset.sets.setfile import load_set
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    what = "write the review of a set: one HTML page, and Markdown for a pull request"
    one = menu.command("review", what, review, UPSTREAM, OFFLINE)
    what = "show what became of this one: a set's name, a set's folder, or a git ref of this repository"
    one.option("--against", "SERIES", what)


def review(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.review import make
    from patchset.upstream.pristine import Source

    patch_set = load_set(arguments.set)
    source = Source(patch_set, given=arguments.upstream, offline=arguments.offline, terminal=terminal)
    outcome = make.run(patch_set, source, arguments.against, terminal, offline=arguments.offline)
    terminal.note(f"{outcome.html}\n{outcome.markdown}")
    terminal.document(outcome.as_dict())
    return 0
