# SPDX-License-Identifier: Apache-2.0
"""trace: what the ranks of a run wrote when it hung."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from patchset.commands.menu import Menu
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    one = menu.bare("trace", "line up the traces of the ranks, and name the first step where they differ", trace)
    one.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a trace file of one rank")
    one.option("--events", "FILE", "write a timeline of all ranks, for ui.perfetto.dev")


def trace(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.trace import events
    from patchset.trace.align import line_up
    from patchset.trace.load import load_all
    from patchset.trace.show import show

    alignment = line_up(load_all(arguments.files))
    if arguments.events is not None:
        arguments.events.write_text(json.dumps(events.document(alignment)), encoding="utf-8")
        terminal.step(f"wrote {arguments.events}; ui.perfetto.dev opens it")
    show(alignment, terminal)
    terminal.document(alignment.as_dict())
    return 0 if alignment.ok else 1
