# SPDX-License-Identifier: Apache-2.0
"""port, outlook: a set on another upstream release."""

from __future__ import annotations

import argparse

from patchset.commands.menu import DRY_RUN, OFFLINE, Menu, told
from patchset.node.errors import UsageError, plural
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    what = "carry a set to another upstream release; stops at conflicts, writes the set whole"
    one = menu.bare("port", what, port, DRY_RUN, OFFLINE)
    one.option("--from", "SET", "the set to carry", dest="old")
    one.option("--to", "SET", "the set to make, by its vLLM version: v0.10.2", dest="new", type=_name_of_set)
    one.option("--ascend", "VERSION", "vllm-ascend's release (default: by vLLM's version)", default="")
    one.option("--commit", "ID", "git commit of its tag, 40 hex digits", default="")
    one.option("--reviewed", "", "upstream's changes to replaced code have been read")
    one.option("--history", "DIR", "a clone of vllm-ascend, to name upstream's commits at conflicts")
    steps = one.add_mutually_exclusive_group()
    for step, summary in (
        ("finish", "write the set from the work tree's commits, once git has rebased them all"),
        ("abort", "forget the port"),
    ):
        steps.add_argument(f"--{step}", dest="step", action="store_const", const=step, help=summary)
    one = menu.command("outlook", "say what newer upstream releases would make of a set's patches", outlook, OFFLINE)
    what = "a vllm-ascend release (default: each newer final one, and a newer pre-release)"
    one.option("--against", "VERSION", what, action="append")
    one.option("--into", "FILE", "write the table into this document, between its marks")


def _name_of_set(text: str) -> str:
    """The type of a set's name, which may lack its v."""
    from packaging.version import InvalidVersion, Version

    try:
        return f"v{Version(text.removeprefix('v'))}"
    except InvalidVersion as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no vLLM version") from error


def port(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.authoring.port import release, report, work

    if arguments.step:
        if arguments.dry_run:
            hint = "leave out DRY_RUN=1; a dry run says what beginning a port would find"
            raise UsageError(f"--{arguments.step} has no dry run; nothing was changed", hint=hint)
        name = work.choose(arguments.new)
        with work.hold(name):
            if arguments.step == "finish":
                return _finish(name, arguments, terminal)
            work.abort(name)
            terminal.note(f"the port to {name} is forgotten; patches/ and overlay/ are as they were")
            terminal.document({"set": name, "result": "aborted"})
            return 0
    if not arguments.old or not arguments.new:
        raise UsageError("port needs --from SET and --to SET, or one of --finish, --abort")
    release.check_commit(arguments.commit)
    old = work.check(arguments.old, arguments.new)
    with work.hold(arguments.new):
        asked = told(arguments, "ascend", "commit", "offline")
        found = work.start(old, arguments.new, **asked, clone=arguments.history, terminal=terminal)
        report.show(found, terminal)
        if arguments.dry_run:
            work.abort(arguments.new)
            terminal.document({"set": arguments.new, "result": "dry run"} | found.as_dict())
            return 0
        terminal.known = {"set": arguments.new, "result": "stopped"} | found.as_dict()
        terminal.step(f"report: {work.folder(arguments.new) / 'report.html'}")
        work.carry(arguments.new)
        return _finish(arguments.new, arguments, terminal)


def _finish(name: str, arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.authoring.port import work

    done = work.finish(name, reviewed=arguments.reviewed, terminal=terminal, offline=arguments.offline)
    for patch in done.dropped:
        terminal.note(f"left out: {patch}")
    terminal.note(f"wrote {done.made.folder}: {plural(len(done.kept), 'patch')}, tree {done.made.tree}")
    terminal.note(f"report: {done.report}")
    lists = {"patches": list(done.kept), "dropped": list(done.dropped)}
    made = {"set": done.made.name, "result": "written", **lists, "tree": done.made.tree}
    terminal.document({**made, "report": str(done.report)})
    return 0


def outlook(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.authoring.port import report, study
    from patchset.sets.setfile import load_set

    reports = study.outlook(load_set(arguments.set), arguments.against, terminal=terminal, offline=arguments.offline)
    for one in reports:
        report.show(one, terminal)
    if arguments.into:
        study.write_into(reports, arguments.into)
    terminal.document({"set": arguments.set, "releases": [one.as_dict() for one in reports]})
    return 0
