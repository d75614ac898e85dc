# SPDX-License-Identifier: Apache-2.0
"""`python patchset-node.pyz verify | cluster verify | cluster smoke`: the product on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from patchset import __version__
from patchset.node import expected, options
from patchset.node.cluster import report, watch
from patchset.node.cluster.report import ClusterReport, NodeRow, Verdict
from patchset.node.cluster.schedule import Schedule
from patchset.node.errors import PatchsetError, unavailable
from patchset.node.expected import Expected
from patchset.node.verify import command

Handler = Callable[[argparse.Namespace, Expected], int]

EXPECTED = "expected.json"
"""Beside the module of that name in the kit."""
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, known: Expected | None = None) -> int:
    """Runs a command line, or the process's own, against what is known or what the kit carries; its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            arguments = parser().parse_args(words)
            code: int = arguments.handler(arguments, known or _carried())
        except PatchsetError as error:
            code = _fail(error, "--json" in words)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            code = _fail(unavailable(error), "--json" in words)
        except KeyboardInterrupt:
            print("interrupted: the node is as before", file=sys.stderr)
            code = _INTERRUPTED
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def parser() -> argparse.ArgumentParser:
    top = options.Parser(prog="patchset-node.pyz", description="Checks builds and clusters on a node, offline.")
    top.add_argument("--version", action="version", version=f"patchset {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=options.Parser)
    options.add_verify(_command(commands, "verify", options.VERIFY, _verify))
    cluster = commands.add_parser("cluster", help=options.CLUSTER, description=options.CLUSTER)
    actions = cluster.add_subparsers(dest="action", required=True, metavar="COMMAND", parser_class=options.Parser)
    options.add_cluster_verify(_command(actions, "verify", options.CLUSTER_VERIFY, _cluster, options.HOW))
    options.add_cluster_smoke(_command(actions, "smoke", options.CLUSTER_SMOKE, _cluster, options.HOW))
    return top


def _command(commands: Any, name: str, summary: str, handler: Handler, more: str = "") -> options.Parser:
    shape = argparse.RawDescriptionHelpFormatter
    told = {"help": summary, "description": summary, "epilog": more, "formatter_class": shape}
    sub: options.Parser = commands.add_parser(name, **told)
    sub.option("--json", "", "print one JSON document on stdout")
    sub.set_defaults(handler=handler)
    return sub


def _verify(arguments: argparse.Namespace, known: Expected) -> int:
    verdicts = command.run(arguments, lambda _: known)
    document = json.dumps(command.document(verdicts), indent=2)
    print(document if arguments.json else "\n".join(line for one in verdicts for line in command.lines(one)))
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def _cluster(arguments: argparse.Namespace, known: Expected) -> int:
    found = check(known, arguments, lambda message: print(f"* {message}", file=sys.stderr))
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else "\n".join(report.lines(found)))
    return found.exit_code


def check(expected: Expected, arguments: argparse.Namespace, step: Callable[[str], None]) -> ClusterReport:
    """Checks a cluster, as `node.options` has it; `step` is told what is done now. Raises what the driver tells."""
    smoke, address = arguments.action == "smoke", arguments.address
    end = time.monotonic() + arguments.timeout
    limit = arguments.timeout / 2 if smoke else arguments.timeout
    step(f"asking the nodes of the Ray cluster {'of this machine' if address == 'auto' else f'at {address}'}")
    survey = {"do": "survey", "address": address, "package": expected.package}
    nodes = report.nodes(watch.run(survey, limit), expected, limit=limit)
    there = sum(row.verdict is not Verdict.LOST for row in nodes)
    lacks = f"{there} of {arguments.nodes} nodes are in the cluster" if there < (arguments.nodes or 0) else ""
    lacks = lacks if nodes else f"Ray named no nodes in {limit:.0f} s"
    found = ClusterReport(expected, nodes, missing=(lacks,) if lacks else (), notes=_notes(nodes, expected))
    if not smoke:
        return found
    if found.exit_code:
        return replace(found, notes=(*found.notes, "no smoke run, because not every node is fine"))
    limit = max(1.0, end - time.monotonic())
    schedule = Schedule(arguments.seed, arguments.steps, arguments.dp)
    step(f"{schedule.ranks} ranks make {schedule.steps} steps over the {arguments.group} group")
    where = {"address": address, "device": arguments.device, "group": arguments.group}
    events = watch.run({"do": "ranks", **where, **asdict(schedule)}, limit)
    ranks = report.ranks(events, nodes, schedule, limit=limit)
    return replace(found, ranks=ranks, missing=() if ranks else (f"Ray placed no ranks in {limit:.0f} s",))


def _notes(nodes: Sequence[NodeRow], expected: Expected) -> tuple[str, ...]:
    """Versions that all nodes have, and that the release was not made for."""
    fine = [row for row in nodes if row.verdict is Verdict.FINE]
    made_for = {"torch-npu": expected.torch_npu, "cann": expected.cann}
    found = {name: fine[0].versions[name] for name in made_for} if fine else {}
    return tuple(
        f"{name} is {version or 'not there'}; {expected.set} was made for {made_for[name]}"
        for name, version in found.items()
        if version != made_for[name]
    )


def _carried() -> Expected:
    data = pkgutil.get_data(expected.__package__, EXPECTED)
    assert data is not None
    return expected.parse(data)


def _fail(error: PatchsetError, as_json: bool) -> int:
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"next: {error.hint}", file=sys.stderr)
    if as_json:
        kind = {"kind": type(error).__name__, "exit_code": error.exit_code}
        print(json.dumps({"error": {**kind, "message": error.message, "hint": error.hint}}, indent=2))
    return error.exit_code
