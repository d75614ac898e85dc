# SPDX-License-Identifier: Apache-2.0
"""What each subcommand does with its arguments: calls the module of its name and prints what that returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.setfile import load_set, only_set

if TYPE_CHECKING:
    import argparse

    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal


def smoke(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset smoke`."""
    from patchset import smoke

    patch_set = _applied(arguments.set)
    report = smoke.run(
        patch_set, device=arguments.device, terminal=terminal, only=arguments.only, offline=arguments.offline
    )
    smoke.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def upstream_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset upstream-tests`."""
    from patchset import upstream_tests

    report = upstream_tests.run(_applied(arguments.set), terminal, offline=arguments.offline)
    upstream_tests.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def overlay_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset overlay-tests`."""
    from patchset import overlay_tests
    from patchset.testrun import Result

    cases = overlay_tests.run(_applied(arguments.set), terminal, offline=arguments.offline)
    by_result = {result.value: [case for case in cases if case.result is result] for result in Result}
    for case in by_result["failed"]:
        terminal.note(f"failed: {case.id}: {case.why}")
    terminal.note(
        "tests of overlay and stand-in: " + ", ".join(f"{len(found)} {result}" for result, found in by_result.items())
    )
    terminal.document(
        {"command": "overlay-tests"} | {result: [case.id for case in found] for result, found in by_result.items()}
    )
    return 0 if by_result["passed"] and not by_result["failed"] else 1


def defects(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset defects`."""
    from patchset import defects

    report = defects.run(_applied(arguments.set), terminal, offline=arguments.offline)
    defects.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def stats(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset stats`."""
    from patchset import stats

    report = stats.count(load_set(arguments.set))
    stats.show(report, terminal)
    terminal.document(report.as_dict())
    return 0


def bench(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset bench`."""
    from patchset import bench

    report = bench.run(_applied(arguments.set), terminal, offline=arguments.offline)
    bench.show(report, terminal)
    terminal.document(report.as_dict())
    return 0


def runtime(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset runtime`."""
    from patchset import runtime

    made = runtime.ensure(load_set(arguments.set), terminal, offline=arguments.offline)
    terminal.note(str(made.python))
    terminal.document({"command": "runtime", "python": str(made.python), "vllm": str(made.vllm)})
    return 0


def _applied(name: str) -> PatchSet:
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


def apply(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset apply`."""
    from patchset import apply, summary
    from patchset.target import Kind

    patch_set = load_set(arguments.set)
    outcome = apply.run(
        patch_set,
        folder=arguments.target,
        upstream=arguments.upstream,
        offline=arguments.offline,
        dry_run=arguments.dry_run,
        terminal=terminal,
    )
    report = None
    if outcome.result == "applied" and outcome.target.kind is Kind.BUILD and not arguments.no_smoke:
        from patchset import smoke

        report = smoke.run(patch_set, device=arguments.device, terminal=terminal, offline=arguments.offline)
    summary.applied(outcome, report, terminal)
    return 0 if report is None or report.ok else 1


def status(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset status`."""
    from patchset import assess, lock, summary
    from patchset.state import Store
    from patchset.target import locate

    patch_set = load_set(arguments.set or only_set())
    target = locate(patch_set, arguments.target)
    store = Store(target.state)
    lock.refuse_if_held(store.lock)
    report = assess.assess(patch_set, target, store)
    summary.assessed(report, target, patch_set, terminal)
    return 0 if report.clean else 1


def revert(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset revert`."""
    from patchset import revert, summary

    outcome = revert.run(
        load_set(arguments.set or only_set()),
        folder=arguments.target,
        upstream=arguments.upstream,
        offline=arguments.offline,
        terminal=terminal,
    )
    summary.reverted(outcome, terminal)
    return 0


def record(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset record`."""
    from patchset import plan, record
    from patchset.source import Source

    patch_set = load_set(arguments.set)
    source = Source(patch_set, given=arguments.upstream, offline=arguments.offline, terminal=terminal)
    changed = [record.record_overlay(patch_set, source.read)]
    made = plan.make(patch_set, source.read)
    changed.append(record.record_result(made))
    terminal.note(f"{'recorded' if any(changed) else 'unchanged'}: {len(made.touched)} files, tree {made.tree}")
    terminal.document({"command": "record", "set": patch_set.name, "changed": any(changed), "tree": made.tree})
    return 0
