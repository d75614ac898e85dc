# SPDX-License-Identifier: Apache-2.0
"""apply, status, revert, record: what is done to a tree; sets, and what `make clean` asks."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from patchset.commands.menu import DEVICE, DRY_RUN, OFFLINE, TARGET, UPSTREAM, Menu
from patchset.node.errors import TargetModified, plural
from patchset.sets.setfile import load_set, only_set
from patchset.system import paths
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    """Adds these commands."""
    what = "patch vllm-ascend, check the result, swap it into place, smoke-test it"
    one = menu.command("apply", what, apply, TARGET, UPSTREAM, OFFLINE, DEVICE, DRY_RUN)
    one.add_argument("--no-smoke", action="store_true", help="leave the smoke tests out")
    what = "say whether a tree is pristine, applied, partial or modified"
    menu.command("status", what, status, TARGET, optional_set=True)
    what = "give upstream's exact bytes back"
    one = menu.command("revert", what, revert, TARGET, UPSTREAM, OFFLINE, DRY_RUN, optional_set=True)
    one.add_argument(
        "--rescue",
        type=Path,
        metavar="DIR",
        help="where files are modified, copy them into this new folder and give upstream's back",
    )
    one = menu.bare("sets", "list the sets, or say which one a name or version means", sets)
    one.add_argument("name", metavar="NAME", nargs="?", help="a set's name, vLLM version or vllm-ascend version")
    menu.bare("unsaved", "refuse where build/ or dist/ holds work that is nowhere else", unsaved)
    menu.command("record", "write the set's digests into its set.toml", record, UPSTREAM, OFFLINE)


def apply(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.commands import summary
    from patchset.proof import settle
    from patchset.target import apply

    patch_set = load_set(arguments.set)
    outcome = apply.run(
        patch_set,
        folder=arguments.target,
        upstream=arguments.upstream,
        offline=arguments.offline,
        dry_run=arguments.dry_run,
        terminal=terminal,
    )
    tested = None
    if not arguments.dry_run:
        tested = settle.settle(
            patch_set,
            outcome.target,
            outcome.tree,
            device=arguments.device,
            wanted=not arguments.no_smoke,
            offline=arguments.offline,
            terminal=terminal,
        )
    summary.applied(outcome, tested, terminal)
    return 0 if tested is None or tested.passed else 1


def status(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.commands import summary
    from patchset.proof import gate
    from patchset.system import lock
    from patchset.system.state import Store
    from patchset.target import assess
    from patchset.target.locate import locate

    patch_set = load_set(arguments.set or only_set())
    target = locate(patch_set, arguments.target)
    store = Store(target.state)
    lock.refuse_if_held(store.lock)
    report = assess.assess(patch_set, target, store)
    tested = {
        device: gate.passed(patch_set.name, gate.subject(patch_set.name, report.digest, device))
        for device in ("cpu", "npu")
    }
    summary.assessed(report, target, patch_set, {device: tier for device, tier in tested.items() if tier}, terminal)
    return 0 if report.clean else 1


def revert(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.commands import summary
    from patchset.target import revert

    outcome = revert.run(
        load_set(arguments.set or only_set()),
        folder=arguments.target,
        upstream=arguments.upstream,
        offline=arguments.offline,
        terminal=terminal,
        dry_run=arguments.dry_run,
        rescue=arguments.rescue,
    )
    summary.reverted(outcome, terminal)
    return 0


def sets(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = [load_set(name) for name in ([arguments.name] if arguments.name else paths.sets())]
    for one in found:
        terminal.note(
            one.name if arguments.name else f"{one.name}: vLLM {one.vllm.version}, vllm-ascend {one.ascend.version}"
        )
    listed = [{"set": one.name, "vllm": one.vllm.version, "vllm_ascend": one.ascend.version} for one in found]
    terminal.document({"sets": listed})
    return 0


def unsaved(_: argparse.Namespace, terminal: Terminal) -> int:
    """Raises TargetModified where build/ or dist/ holds work that is nowhere else: `make clean` would take it away."""
    found = list(_unsaved())
    if not found:
        terminal.document({"found": []})
        return 0
    rows = "\n".join(f"  {place}: {what}" for place, what in found)
    raise TargetModified(
        f"there is work to lose; nothing was removed\n{rows}",
        paths=[str(place) for place, _ in found],
        hint="keep it, then run again; `make clean-all` removes it with the rest",
    )


def _unsaved() -> Iterator[tuple[Path, str]]:
    """Where such work lies, what it is, and the command that keeps it."""
    from patchset.authoring.port import work
    from patchset.system.state import Store
    from patchset.target.assess import State, assess
    from patchset.target.locate import build_tree

    for name in paths.sets():
        patch_set = load_set(name)
        target = build_tree(patch_set)
        if not target.root.is_dir():
            continue
        report = assess(patch_set, target, Store(target.state))
        if report.authored:
            yield target.root, f"{report.authored.what}; keep them with {report.authored.next}"
        elif report.state is State.MODIFIED:
            yield (
                target.root,
                f"{plural(len(report.rows), 'file')} changed by hand; `patchset status {name}` names them",
            )
    for tree in sorted((paths.repo_root() / "build").glob("v*/vllm-ascend")):
        if tree.parent.name not in paths.sets():
            yield tree, "the tree of a set that is not in patches/ here"
    for name in work.running():
        yield (
            work.folder(name),
            f"a port is under way; end it with make port STEP=finish TO={name}, or STEP=abort",
        )
    for signature in sorted((paths.repo_root() / "dist").glob("*/SHA256SUMS.minisig")):
        yield signature.parent, "signed wheels; move them elsewhere"


def record(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.plan import plan, record
    from patchset.upstream.source import Source

    patch_set = load_set(arguments.set)
    source = Source(patch_set, given=arguments.upstream, offline=arguments.offline, terminal=terminal)
    changed = [record.record_overlay(patch_set, source.read)]
    made = plan.make(patch_set, source.read)
    changed.append(record.record_result(made))
    terminal.note(
        f"{'recorded' if any(changed) else 'unchanged'}: {plural(len(made.touched), 'file')}, tree {made.tree}"
    )
    terminal.document({"set": patch_set.name, "changed": any(changed), "tree": made.tree})
    return 0
