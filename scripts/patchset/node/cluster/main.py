# SPDX-License-Identifier: Apache-2.0
"""`python patchset-node.pyz verify | cluster verify | cluster smoke`: the product on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from patchset import __version__
from patchset.node import expected, options
from patchset.node.cluster import check, report
from patchset.node.errors import PatchsetError, unavailable
from patchset.node.expected import Expected
from patchset.node.verify import command

Handler = Callable[[argparse.Namespace, Expected], int]

EXPECTED = "expected.json"
"""Beside the module of that name in the kit."""
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, known: Expected | None = None) -> int:
    """Runs a command line, or the process's own, against what is known or what the kit carries; its exit code."""
    try:
        try:
            return _answer(sys.argv[1:] if argv is None else list(argv), known)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _answer(words: Sequence[str], known: Expected | None) -> int:
    try:
        arguments = parser().parse_args(words)
        handler: Handler = arguments.handler
        return handler(arguments, known or _carried())
    except PatchsetError as error:
        return _fail(error, "--json" in words)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(unavailable(error), "--json" in words)
    except KeyboardInterrupt:
        print("interrupted: the node is as before", file=sys.stderr)
        return _INTERRUPTED


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
    found = check.run(known, arguments, lambda message: print(f"* {message}", file=sys.stderr))
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else "\n".join(report.lines(found)))
    return found.exit_code


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
