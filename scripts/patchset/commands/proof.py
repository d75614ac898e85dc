# SPDX-License-Identifier: Apache-2.0
"""smoke, evidence, defects, runtime and stats: what is shown of an applied tree; doctor: of this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from patchset.commands.menu import DEVICE, OFFLINE, Menu, told
from patchset.node.errors import plural
from patchset.sets.setfile import PatchSet, load_set
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    one = menu.command("smoke", "run the smoke tests on the patched tree", smoke, DEVICE, OFFLINE)
    one.option("--only", "EXPRESSION", "run the tests that pytest -k EXPRESSION selects")
    one.option(
        "--installed", "DIR", "test the wheel that is installed in this virtual environment or site-packages folder"
    )
    what = "run all smoke tests of a set, and keep what each said beside its patches"
    one = menu.command("evidence", what, evidence, OFFLINE)
    one.option("--check", "", "hold what is kept against the quick tier and a sample of it")
    one.option("--seed", "SEED", "what the sample is drawn from (default: the commit)")
    for name, summary, handler in (
        ("defects", "show each upstream defect on the pristine tree, and that the patched one is rid of it", defects),
        ("runtime", "build the Python environment of the smoke tests", runtime),
    ):
        menu.command(name, summary, handler, OFFLINE)
    one = menu.command("doctor", "say what this machine has and lacks, and what to do about it", doctor, OFFLINE)
    one.option("--python", "FILE", "the interpreter of a serving environment to look at")
    menu.command("stats", "count the lines that each patch and the overlay add and remove", stats)


def smoke(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.proof import defects, settle, smoke

    patched = None
    if arguments.installed:
        patch_set = load_set(arguments.set)
        patched = settle.of_installation(patch_set, arguments.installed, arguments.device)
    else:
        patch_set = asked(arguments, terminal)
    report = smoke.run(patch_set, **told(arguments, "device", "only", "offline"), terminal=terminal, patched=patched)
    if patched is None:
        defects.keep(patch_set, report)
    smoke.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def defects(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.proof import defects

    report = defects.run(asked(arguments, terminal), terminal, offline=arguments.offline)
    defects.show(report, terminal)
    terminal.document(report.as_dict())
    return 0 if report.ok else 1


def stats(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.sets import stats

    report = stats.count(load_set(arguments.set))
    stats.show(report, terminal)
    terminal.document(report)
    return 0


def runtime(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.proof import runtime

    made = runtime.ensure(load_set(arguments.set), terminal, offline=arguments.offline)
    terminal.note(str(made.python))
    terminal.document({"python": str(made.python), "vllm": str(made.vllm)})
    return 0


def evidence(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.proof import defects, evidence, smoke
    from patchset.system import paths
    from patchset.system.git import Repository

    patch_set = asked(arguments, terminal)
    if not arguments.check:
        report = evidence.make(patch_set, terminal, offline=arguments.offline)
        defects.keep(patch_set, report)
        smoke.show(report, terminal)
        if report.ok:
            terminal.note(f"wrote {evidence.file_of(patch_set)}: {plural(len(report.cases), 'row')}")
        terminal.document(report.as_dict())
        return 0 if report.ok else 1
    seed = arguments.seed or Repository(paths.repo_root()).ref("HEAD") or patch_set.tree
    found = evidence.check(patch_set, terminal, seed=seed, offline=arguments.offline)
    defects.keep(patch_set, found.report)
    smoke.show(found.report, terminal)
    for row in found.differing:
        terminal.note(f"differs: {row}")
    ran = f"{plural(len(found.report.cases), 'row')} run again, {len(found.differing)} differ"
    if found.foreign:
        ran = f"{found.foreign}; the whole suite ran. `make evidence VERSION={patch_set.name}` keeps it"
    terminal.note(f"evidence: {ran}")
    terminal.document(found.as_dict())
    return 0 if found.ok else 1


def doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.proof.doctor import Verdict, look

    patch_set = load_set(arguments.set)
    terminal.step("looking at this machine")
    findings = list(look(patch_set, offline=arguments.offline, serving=arguments.python))
    width = max(len(one.subject) for one in findings)
    for one in findings:
        terminal.note(f"{one.verdict.value:<8}{one.subject:<{width}}  {one.found}")
        if one.advice:
            terminal.note(f"{'':<8}{'':<{width}}  needed for {one.needed_for}; {one.advice}")
    lacking = [one.subject for one in findings if one.verdict is Verdict.LACKS]
    terminal.note(f"lacking: {', '.join(lacking)}" if lacking else "nothing is lacking")
    listed = [asdict(one) | {"verdict": one.verdict.value} for one in findings]
    terminal.document({"set": patch_set.name, "lacking": lacking, "findings": listed})
    return 1 if lacking else 0


def asked(arguments: argparse.Namespace, terminal: Terminal) -> PatchSet:
    """The set that a command was given, applied to its build tree; raises as `applied`."""
    return applied(arguments.set, terminal, offline=arguments.offline)


def applied(name: str, terminal: Terminal, *, offline: bool = False) -> PatchSet:
    """The set, applied first where its build tree is absent or pristine; raises Findings where that is modified."""
    from patchset.node.errors import Findings
    from patchset.system.state import Store
    from patchset.target import apply
    from patchset.target.assess import State, assess
    from patchset.target.locate import build_tree

    patch_set = load_set(name)
    target = build_tree(patch_set)
    report = assess(patch_set, target, Store(target.state))
    if report.state is State.APPLIED:
        return patch_set
    if report.state is State.MODIFIED or report.authored:
        raise Findings(f"{target.root} is {report.state.value}, not applied", hint=f"make status VERSION={name}")
    apply.run(patch_set, folder=None, upstream=None, offline=offline, dry_run=False, terminal=terminal)
    return patch_set
