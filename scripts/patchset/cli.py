# SPDX-License-Identifier: Apache-2.0
"""The command line: one parser, one place where errors become messages, and exit codes as in `node.errors`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from patchset import __version__
from patchset.commands import authoring, port, proof, trace, tree, wheels
from patchset.commands.menu import Menu
from patchset.node.errors import INTERNAL, PatchsetError, unavailable
from patchset.system.terminal import Terminal

GROUPS = (tree, proof, wheels, authoring, port, trace)
READERS = {
    "operator": ("apply", "status", "revert", "wheels", "verify", "cluster", "smoke", "trace", "doctor"),
    "reviewer": ("review", "lint", "defects", "evidence", "stats"),
    "engineer": ("export", "fmt", "pin", "port", "outlook", "runtime"),
}
_USAGE = "usage: patchset COMMAND [SET] [options]    patchset COMMAND --help    patchset --version"
_WHAT = """\
Patches a pinned release of vllm-ascend, checks the result, and ships and reviews it.
SET is a set's name, vLLM version or vllm-ascend version, as v0.10.1.1 or 0.10.1rc1; `patchset sets` lists them."""
_EXAMPLES = """
patchset apply v0.10.1.1                       patch, check and smoke-test build/v0.10.1.1/vllm-ascend
patchset verify --installed --python python3   hold an installation to the set that it names
patchset review v0.10.1.1 --against HEAD       the review page, with what became of each patch"""
_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of `patchset` and its subcommands; its help groups them by reader, and leaves out those of none."""
    menu = Menu.top(_WHAT, "patchset")
    for group in GROUPS:
        group.add(menu)
    listed = [
        line
        for reader, names in READERS.items()
        for line in (f"{reader}:", *(f"  {name:<9} {menu.summaries[name]}" for name in names))
    ]
    menu.parser.screen = "\n".join([_USAGE, _WHAT, *listed, _EXAMPLES, ""])
    return menu.parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; no exception leaves it."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for the next word
        import argcomplete

        argcomplete.autocomplete(parser)
    return answer(parser, sys.argv[1:] if argv is None else argv)


def answer(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Runs one command of a parser; an error becomes a message and an exit code."""
    words = list(argv)
    terminal = Terminal(as_json="--json" in words)
    try:
        arguments = parser.parse_args(words)
        terminal.command = " ".join([arguments.command, *filter(None, [getattr(arguments, "action", None)])])
        return int(arguments.handler(arguments, terminal))
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except PatchsetError as error:
        return _fail(error, terminal)
    except KeyboardInterrupt:
        print("\ninterrupted; run the command again to finish or take back what it began", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the reader is gone; keep the interpreter's last flush quiet
        return 0
    except OSError as error:
        return _fail(unavailable(error), terminal)
    except Exception as error:
        return _internal(error, words)


def _fail(error: PatchsetError, terminal: Terminal) -> int:
    if os.environ.get("PATCHSET_DEBUG"):
        traceback.print_exception(error)
    terminal.error(error)
    failure = {"kind": type(error).__name__, "exit_code": error.exit_code, **_data(error)}
    terminal.document({**terminal.known, "error": failure})
    return error.exit_code


def _data(error: PatchsetError) -> dict[str, object]:
    """An error's fields in JSON types."""
    return {
        name: list(value) if isinstance(value, tuple) else value if isinstance(value, int | str | None) else str(value)
        for name, value in vars(error).items()
        if not name.startswith("_")
    }


def _internal(error: Exception, words: Sequence[str]) -> int:
    if os.environ.get("PATCHSET_DEBUG"):
        traceback.print_exception(error)
        return INTERNAL
    print(f"error: internal error: {type(error).__name__}: {error}", file=sys.stderr)
    try:
        with tempfile.NamedTemporaryFile("w", prefix="patchset-", suffix=".log", delete=False) as report:
            report.write(f"patchset {__version__}, Python {sys.version}\narguments: {words}\n\n")
            traceback.print_exception(error, file=report)
        print(f"next: report this, with the file {report.name}", file=sys.stderr)
    except OSError:
        print("next: run again with PATCHSET_DEBUG=1 and report what it prints", file=sys.stderr)
    return INTERNAL


if __name__ == "__main__":
    sys.exit(main())
