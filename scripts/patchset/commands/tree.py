# SPDX-License-Identifier: Apache-2.0
"""apply, status, revert, pin: what is done to a tree; sets, and what `make clean` asks."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from patchset.commands.menu import DEVICE, DRY_RUN, OFFLINE, TARGET, UPSTREAM, Menu, told
from patchset.node.errors import TargetModified, plural
from patchset.sets.setfile import load_set, only_set
from patchset.system import paths
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    what = "patch vllm-ascend, check the result, swap it into place, smoke-test it"
    one = menu.command("apply", what, apply, TARGET, UPSTREAM, OFFLINE, DEVICE, DRY_RUN)
    one.option("--no-smoke", "", "leave the smoke tests out")
    what = "say whether a tree is pristine, applied, partial or modified"
    menu.command("status", what, status, TARGET, optional_set=True)
    what = "give upstream's exact bytes back"
    one = menu.command("revert", what, revert, TARGET, UPSTREAM, OFFLINE, DRY_RUN, optional_set=True)
    one.option("--rescue", "DIR", "where files are modified, copy them into this new folder and give upstream's back")
    one = menu.bare("sets", "list the sets, or say which one a name or version means", sets)
    one.add_argument("name", metavar="NAME", nargs="?", help="a set's name, vLLM version or vllm-ascend version")
    menu.bare("unsaved", "refuse where build/ or dist/ holds work that is nowhere else", unsaved)
    menu.command("pin", "write the set's digests into its set.toml", pin, UPSTREAM, OFFLINE)


def apply(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.commands import summary
    from patchset.proof import settle
    from patchset.target import apply

    patch_set = load_set(arguments.set)
    given = told(arguments, "upstream", "offline", "dry_run")
    outcome = apply.run(patch_set, folder=arguments.target, **given, terminal=terminal)
    tested = None
    if not arguments.dry_run:
        how = {**told(arguments, "device", "offline"), "wanted": not arguments.no_smoke, "terminal": terminal}
        tested = settle.settle(patch_set, outcome.target, outcome.tree, **how)
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
    subjects = {device: gate.subject(patch_set.name, report.digest, device) for device in ("cpu", "npu")}
    tested = {device: tier for device, about in subjects.items() if (tier := gate.passed(patch_set.name, about))}
    summary.assessed(report, target, patch_set, tested, terminal)
    return 0 if report.clean else 1


def revert(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.commands import summary
    from patchset.target import revert

    patch_set = load_set(arguments.set or only_set())
    given = told(arguments, "upstream", "offline", "dry_run", "rescue")
    summary.reverted(revert.run(patch_set, folder=arguments.target, **given, terminal=terminal), terminal)
    return 0


def sets(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = [load_set(name) for name in ([arguments.name] if arguments.name else paths.sets())]
    for one in found:
        more = "" if arguments.name else f": vLLM {one.vllm.version}, vllm-ascend {one.ascend.version}"
        terminal.note(f"{one.name}{more}")
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
    hint = "keep it, then run again; `make clean-all` removes it with the rest"
    places = [str(place) for place, _ in found]
    raise TargetModified(f"there is work to lose; nothing was removed\n{rows}", paths=places, hint=hint)


def _unsaved() -> Iterator[tuple[Path, str]]:
    """Where such work lies, what it is, and the command that keeps it."""
    from patchset.authoring.port import work
    from patchset.plan import history
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
            count = plural(len(report.rows), "file")
            yield target.root, f"{count} changed by hand; `patchset status {name}` names them"
        if report.untracked:
            count, first = plural(len(report.untracked), "file"), report.untracked[0]
            yield target.root, f"{count} that neither upstream nor the set has, {first} among them"
        for branch, number in history.aside(target.root).items():
            count = plural(number, "commit")
            yield target.root, f"{count} on {branch} that patches/ does not hold; git log upstream..{branch} shows them"
        if history.stashed(target.root):
            yield target.root, "changes that git has stashed; git stash list names them"
    for tree in sorted((paths.repo_root() / "build").glob("v*/vllm-ascend")):
        if tree.parent.name not in paths.sets():
            yield tree, "the tree of a set that is not in patches/ here"
    for name in work.running():
        yield work.folder(name), f"a port is under way; end it with make port STEP=finish TO={name}, or STEP=abort"
    for signature in sorted((paths.repo_root() / "dist").glob("*/SHA256SUMS.minisig")):
        yield signature.parent, "signed wheels; move them elsewhere"


def pin(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.plan import pins, plan
    from patchset.upstream.pristine import Source

    patch_set = load_set(arguments.set)
    source = Source(patch_set, given=arguments.upstream, offline=arguments.offline, terminal=terminal)
    overlay = pins.pin_overlay(patch_set, source.read)
    made = plan.make(patch_set, source.read)
    changed = pins.pin_result(made) or overlay
    terminal.note(f"{'pinned' if changed else 'unchanged'}: {plural(len(made.touched), 'file')}, tree {made.tree}")
    terminal.document({"set": patch_set.name, "changed": changed, "tree": made.tree})
    return 0
