# SPDX-License-Identifier: Apache-2.0
"""The list of subcommands, and the options that many of them share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from patchset import __version__
from patchset.node import options
from patchset.node.options import spec
from patchset.system import paths
from patchset.system.terminal import Terminal

Handler = Callable[[argparse.Namespace, Terminal], int]
Option = tuple[str, Mapping[str, Any]]
"""An option that several commands have: its name, and what `add_argument` is told of it."""

TARGET: Option = ("--target", spec("DIR", "work in place on a checkout or a site-packages folder, not in build/"))
UPSTREAM: Option = ("--upstream", spec("PATH", "an sdist, a directory or a git checkout of upstream"))
OFFLINE: Option = ("--offline", spec("", "use the download cache alone"))
DRY_RUN: Option = ("--dry-run", spec("", "say what would change, and change nothing"))
_WHERE = "where the smoke tests run (default: cpu)"
DEVICE: Option = ("--device", {"choices": ("cpu", "npu"), "default": "cpu", "help": _WHERE})


def told(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}


class Parser(options.Parser):
    """One whose help may be a screen that somebody has put together."""

    screen = ""

    def format_help(self) -> str:
        return self.screen or super().format_help()


class Menu:
    def __init__(self, parser: Parser, dest: str) -> None:
        self.parser = parser
        self.summaries: dict[str, str] = {}
        self._commands = parser.add_subparsers(
            dest=dest, required=True, metavar="COMMAND", parser_class=Parser, prog=parser.prog
        )

    @classmethod
    def top(cls, description: str, prog: str) -> Menu:
        shape = argparse.RawDescriptionHelpFormatter
        parser = Parser(prog=prog, description=description, formatter_class=shape)
        parser.add_argument("--version", action="version", version=f"patchset {__version__}")
        return cls(parser, "command")

    def group(self, name: str, summary: str, description: str) -> Menu:
        """`patchset NAME COMMAND`: the menu of commands that share a first word; `arguments.action` is the second."""
        shape = argparse.RawDescriptionHelpFormatter
        self.summaries[name] = summary
        parser = self._commands.add_parser(name, help=summary, description=description, formatter_class=shape)
        return Menu(parser, "action")

    def bare(self, name: str, summary: str, handler: Handler, *options: Option) -> Parser:
        """A command that works on no set; `handler` gives its exit code."""
        self.summaries[name] = summary
        sub = self._commands.add_parser(name, help=summary, description=summary)
        sub.option("--json", "", "print one JSON document on stdout")
        for option, told in options:
            sub.add_argument(option, **told)
        sub.set_defaults(handler=handler)
        return sub

    def command(
        self, name: str, summary: str, handler: Handler, *options: Option, optional_set: bool = False
    ) -> Parser:
        sub = self.bare(name, summary, handler, *options)
        what = "a set's name, vLLM version or vllm-ascend version: v0.10.1.1, 0.10.1rc1; `patchset sets` has all"
        asked = sub.add_argument("set", metavar="SET", nargs="?" if optional_set else None, help=what)
        asked.completer = lambda **_: paths.sets()  # type: ignore[attr-defined] # argcomplete asks it
        return sub
