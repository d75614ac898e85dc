# SPDX-License-Identifier: Apache-2.0
"""apply, status, revert, record: what is done to a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.setfile import load_set, only_set

if TYPE_CHECKING:
    import argparse

    from patchset.menu import Menu
    from patchset.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    one = menu.command("apply", "patch vllm-ascend, check the result, swap it into place, smoke-test it", apply)
    menu.target(one)
    menu.source(one)
    menu.device(one)
    one.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    one.add_argument("--no-smoke", action="store_true", help="leave the smoke tests out")
    one = menu.command(
        "status", "say whether a tree is pristine, applied, partial or modified", status, optional_set=True
    )
    menu.target(one)
    one = menu.command("revert", "give upstream's exact bytes back", revert, optional_set=True)
    menu.target(one)
    menu.source(one)
    menu.source(menu.command("record", "maintainers: write the set's digests into its set.toml", record))


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
        from patchset import defects, smoke

        report = smoke.run(patch_set, device=arguments.device, terminal=terminal, offline=arguments.offline)
        defects.keep(patch_set, report)
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
