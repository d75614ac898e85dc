# SPDX-License-Identifier: Apache-2.0
"""What this repository holds itself and upstream against, beyond the smoke tests; make's targets call it.

`python -m selftest COMMAND SET`, with tests/ on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from patchset import cli
from patchset.commands.menu import OFFLINE, Menu, Option
from patchset.commands.proof import applied, asked
from patchset.node.options import at_least
from patchset.system.terminal import Terminal

MODELS = ("patched", "pristine", "mutants")
SEED: Option = (
    "--seed",
    {"type": at_least(0), "default": 0, "metavar": "S", "help": "what they are drawn from (default: 0)"},
)
SETS: Option = ("sets", {"metavar": "SET", "nargs": "*", "help": "folders of patches/ (default: all)"})


def build_menu() -> Menu:
    menu = Menu.top(__doc__, "selftest")
    summary = "run upstream's unit tests on the pristine and the patched tree"
    menu.command("upstream-tests", summary, upstream_tests, OFFLINE)
    one = menu.command("bench", "measure the patched tree against the pristine one", bench, OFFLINE)
    one.add_argument("--fast", action="store_true", help="three minutes instead of fifteen; the document stays")
    one.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="also what a read of it costs")
    one.add_argument("--only", metavar="SCRIPT", help="one of tests/benchmarks alone, in the last whole run's tables")
    summary = "run the tests of overlay, stand-in, simulator and cluster"
    one = menu.command("overlay-tests", summary, overlay_tests, OFFLINE)
    one.add_argument("--slow", action="store_true", help="also those that wait minutes for a node that does not answer")
    one = menu.bare("matrix", "put the tables of defects of all sets side by side", matrix, OFFLINE, SETS)
    one.add_argument("--again", action="store_true", help="run the tests also where the last run was of the same tree")
    one = menu.command("prove", "check the ranks' decisions over random schedules", prove, OFFLINE, SEED)
    count = "schedules for the patched tree (default: 100000)"
    one.add_argument("--schedules", type=at_least(1), default=100_000, metavar="N", help=count)
    which = "one of the patched tree, the pristine tree and broken overlays (default: all)"
    one.add_argument("--model", choices=MODELS, help=which)
    one = menu.command("survey", "compare both trees on deployments that are drawn", survey, OFFLINE, SEED)
    one.add_argument("--count", type=at_least(1), default=60, metavar="N", help="how many (default: 60)")
    one.add_argument("--only", metavar="LINES", help="these deployments instead: departures of each, as name=value,..")
    one.add_argument("--found", action="store_true", help="those of tests/survey/found.toml instead")
    which = "of those found, one: another one for another text, as a commit's id"
    one.add_argument("--turn", metavar="TEXT", help=which)
    one.add_argument("--as-drawn", action="store_true", help="do not reduce those that are worse")
    menu.bare("overlay-types", "hold the overlay of each set to its types", overlay_types, SETS)
    menu.bare("documents", "write the tables of the documents that are made", documents)
    return menu


def upstream_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from selftest import upstream

    report = upstream.run(asked(arguments, terminal), terminal, offline=arguments.offline)
    return _told(report, upstream.show, terminal)


def overlay_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.proof.testrun import Result
    from selftest import overlay

    outcome = overlay.run(asked(arguments, terminal), terminal, offline=arguments.offline, slow=arguments.slow)
    by_result = {result.value: [case for case in outcome.cases if case.result is result] for result in Result}
    for case in by_result["failed"]:
        terminal.note(f"failed: {case.id}: {case.why}")
    terminal.note(
        "tests of overlay, stand-in and cluster checks: "
        + ", ".join(f"{len(found)} {result}" for result, found in by_result.items())
    )
    covered = outcome.covered
    terminal.note(f"of the overlay they have run {covered.percent:.1f} % by branch")
    if not outcome.enough:
        for path, lines in covered.missing.items():
            terminal.note(f"not run: {path}: lines {', '.join(map(str, lines))}")
    terminal.document(
        {"covered": covered.percent} | {result: [case.id for case in found] for result, found in by_result.items()}
    )
    return 0 if by_result["passed"] and not by_result["failed"] and outcome.enough else 1


def matrix(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.system import paths
    from selftest import matrix

    sets = [applied(name, terminal, offline=arguments.offline) for name in arguments.sets or paths.sets()]
    found = matrix.gather(sets, terminal, offline=arguments.offline, again=arguments.again)
    return _told(found, matrix.show, terminal)


def bench(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from selftest.bench import report
    from selftest.bench.run import run

    found = run(asked(arguments, terminal), terminal, **_given(arguments, "fast", "device", "only", "offline"))
    return _told(found, report.show, terminal)


def prove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from selftest.schedules import report
    from selftest.schedules.run import Model, run

    only = Model(arguments.model) if arguments.model else None
    found = run(asked(arguments, terminal), terminal, only=only, **_given(arguments, "schedules", "seed", "offline"))
    return _told(found, report.show, terminal)


def survey(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from selftest import survey

    patch_set = asked(arguments, terminal)
    drawn = survey.deployments(patch_set.name, **_given(arguments, "count", "seed", "only", "found", "turn"))
    report = survey.run(patch_set, terminal, drawn, reduce=not arguments.as_drawn, offline=arguments.offline)
    return _told(report, survey.show, terminal)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}


def _told(report: Any, show: Callable[[Any, Terminal], None], terminal: Terminal) -> int:
    """Shows a report, and its exit code."""
    show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def overlay_types(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.sets.setfile import load_set
    from patchset.system import paths
    from selftest import overlay_types

    well = {}
    for name in arguments.sets or paths.sets():
        terminal.step(f"types of the overlay of {name}")
        well[name] = overlay_types.check(load_set(name))
    terminal.document({"well": well})
    return 0 if all(well.values()) else 1


def documents(_: argparse.Namespace, terminal: Terminal) -> int:
    from selftest import documents

    changed = [file.name for file in documents.write()]
    terminal.note(f"wrote {', '.join(changed)}" if changed else "unchanged: the documents are as made")
    terminal.document({"changed": changed})
    return 0


def main(argv: Sequence[str]) -> int:
    """Runs one command; its exit code, which means what patchset's mean."""
    return cli.answer(build_menu().parser, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
