# SPDX-License-Identifier: Apache-2.0
"""trace: what the ranks of a run wrote when it hung."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from patchset.commands.menu import Menu
from patchset.system.terminal import Terminal

if TYPE_CHECKING:
    from patchset.trace.load import RankTrace, Step

# Steps shown before the first difference, or before the last step.
_BEFORE = 4
_AFTER = 1


def add(menu: Menu) -> None:
    one = menu.bare("trace", "line up the traces of the ranks, and name the first step where they differ", trace)
    one.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a trace file of one rank")
    one.option("--events", "FILE", "write a timeline of all ranks, for ui.perfetto.dev")


def trace(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.trace.align import line_up, timeline
    from patchset.trace.load import load_all

    alignment = line_up(load_all(arguments.files))
    if arguments.events is not None:
        arguments.events.write_text(json.dumps(timeline(alignment)), encoding="utf-8")
        terminal.step(f"wrote {arguments.events}; ui.perfetto.dev opens it")
    terminal.table("ranks", ("rank", "host", "last step", "in", "for", "at"), map(_rank, alignment.ranks), right="for")
    numbers = alignment.around(_BEFORE, _AFTER)
    if numbers:
        columns = ("step", *(rank.name for rank in alignment.ranks))
        steps = {number: [rank.steps.get(number) for rank in alignment.ranks] for number in numbers}
        rows = [(str(n), *("\n".join(_lines(step)) if step else "-" for step in row)) for n, row in steps.items()]
        terminal.table(f"steps {numbers[0]} to {numbers[-1]}", columns, rows, right="step")
    if teller := next((rank for rank in alignment.ranks if rank.peers), None):
        terminal.note("\n  ".join((f"what the ranks said of themselves, to {teller.name}:", *teller.peers)))
    terminal.note(alignment.verdict)
    terminal.document(alignment.as_dict())
    return 0 if alignment.ok else 1


def _rank(rank: RankTrace) -> tuple[str, ...]:
    where = f"{rank.host}, process {rank.pid}"
    if rank.wait is None:
        return rank.name, where, str(rank.last), rank.why, "", ""
    return rank.name, where, str(rank.last), rank.wait.collective, f"{rank.wait.seconds:.1f} s", rank.wait.at or ""


def _lines(step: Step) -> Iterator[str]:
    kind = "prefill" if step.batch.with_prefill else "decode"
    yield f"{step.what}: {step.batch.num_tokens} ({kind})"
    if step.decision is None:
        yield "on its own" if step.alone else "undecided"
        return
    graph = " graph" if step.decision.graph else ""
    yield f"{list(step.decision.padded_tokens_per_rank)}{graph}"
    spans = {"waited": step.waited_s, "forward": step.forward_s}
    yield ", ".join(f"{name} {1e3 * span:.1f} ms" for name, span in spans.items() if span is not None)
