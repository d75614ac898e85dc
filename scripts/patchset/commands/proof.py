# SPDX-License-Identifier: Apache-2.0
"""smoke, defects, upstream-tests, bench and their like: what is shown of an applied tree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from patchset.setfile import load_set

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.command("smoke", "run the smoke tests on the patched tree", smoke)
    menu.device(one)
    menu.offline(one)
    one.add_argument("--only", metavar="EXPRESSION", help="run the tests that pytest -k EXPRESSION selects")
    one.add_argument("--own", action="store_true", help="leave out the tests of what all sets have alike")
    one.add_argument(
        "--installed",
        type=Path,
        metavar="DIR",
        help="test the wheel that is installed in this virtual environment or site-packages folder",
    )
    for name, summary, handler in (
        ("upstream-tests", "run upstream's unit tests on the pristine and the patched tree", upstream_tests),
        ("defects", "show each upstream defect on the pristine tree, and that the patched one is rid of it", defects),
        ("bench", "measure the patched tree against the pristine one", bench),
        ("runtime", "build the Python environment of the smoke tests", runtime),
    ):
        menu.offline(menu.command(name, summary, handler))
    one = menu.command("overlay-tests", "run the tests of overlay, stand-in, simulator and cluster", overlay_tests)
    menu.offline(one)
    one.add_argument("--slow", action="store_true", help="also those that wait minutes for a node that does not answer")
    one = menu.bare("matrix", "put the tables of defects of all sets side by side", matrix)
    one.add_argument("sets", metavar="SET", nargs="*", help="folders of patches/ (default: all)")
    one.add_argument("--again", action="store_true", help="run the tests also where the last run was of the same tree")
    menu.offline(one)
    menu.command("stats", "count the lines that each patch and the overlay add and remove", stats)


def smoke(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset smoke`."""
    from patchset import defects, smoke

    patched = None
    if arguments.installed:
        from patchset import paths
        from patchset.wheels import installed

        patch_set = load_set(arguments.set)
        folder = installed.site_packages(patch_set, arguments.installed)
        patched = installed.alone(patch_set, folder, paths.build_dir(patch_set.name) / "installed")
    else:
        patch_set = applied(arguments.set)
    report = smoke.run(
        patch_set,
        device=arguments.device,
        terminal=terminal,
        only=arguments.only,
        own=arguments.own,
        offline=arguments.offline,
        patched=patched,
    )
    defects.keep(patch_set, report)
    smoke.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def upstream_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset upstream-tests`."""
    from patchset import upstream_tests

    report = upstream_tests.run(applied(arguments.set), terminal, offline=arguments.offline)
    upstream_tests.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def overlay_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset overlay-tests`."""
    from patchset import overlay_tests
    from patchset.testrun import Result

    outcome = overlay_tests.run(applied(arguments.set), terminal, offline=arguments.offline, slow=arguments.slow)
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
        {"command": "overlay-tests", "covered": covered.percent}
        | {result: [case.id for case in found] for result, found in by_result.items()}
    )
    return 0 if by_result["passed"] and not by_result["failed"] and outcome.enough else 1


def defects(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset defects`."""
    from patchset import defects

    report = defects.run(applied(arguments.set), terminal, offline=arguments.offline)
    defects.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def matrix(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset matrix`."""
    from patchset import matrix, paths

    sets = [applied(name) for name in arguments.sets or paths.sets()]
    found = matrix.gather(sets, terminal, offline=arguments.offline, again=arguments.again)
    matrix.show(found, terminal)
    terminal.document(found.as_dict())
    return 0 if found.ok else 1


def stats(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset stats`."""
    from patchset import stats

    report = stats.count(load_set(arguments.set))
    stats.show(report, terminal)
    terminal.document(report.as_dict())
    return 0


def bench(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset bench`."""
    from patchset.bench import report
    from patchset.bench.run import run

    found = run(applied(arguments.set), terminal, offline=arguments.offline)
    report.show(found, terminal)
    terminal.document(found.as_dict())
    return 0


def runtime(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset runtime`."""
    from patchset import runtime

    made = runtime.ensure(load_set(arguments.set), terminal, offline=arguments.offline)
    terminal.note(str(made.python))
    terminal.document({"command": "runtime", "python": str(made.python), "vllm": str(made.vllm)})
    return 0


def applied(name: str) -> PatchSet:
    """The set, whose build tree must be applied.

    Raises:
        Findings: the build tree is not what the set makes.
    """
    from patchset.assess import State, assess
    from patchset.errors import Findings
    from patchset.state import Store
    from patchset.target import build_tree

    patch_set = load_set(name)
    target = build_tree(patch_set)
    state = assess(patch_set, target, Store(target.state)).state
    if state is not State.APPLIED:
        raise Findings(f"{target.root} is {state.value}, not applied", hint=f"make apply VERSION={name} SMOKE=0")
    return patch_set
