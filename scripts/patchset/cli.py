# SPDX-License-Identifier: Apache-2.0
"""The command line: one parser, one place where errors become messages and exit codes.

Exit codes: 0 ok; 1 findings (status not clean, smoke failed); 2 usage; 3 a patch does not apply; 4 target modified;
5 pin or hash mismatch; 6 network, cache or disk not available; 7 locked; 70 internal.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from patchset import __version__
from patchset.errors import INTERNAL, PatchsetError, Unavailable, UsageError
from patchset.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that a usage error looks like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `patchset` and its subcommands."""
    parser = _Parser(prog="patchset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"patchset {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, summary: str, *, optional_set: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument(
            "set", metavar="SET", nargs="?" if optional_set else None, help="a folder of patches/: v0.10.1.1"
        )
        sub.add_argument("--json", action="store_true", help="print one JSON document on stdout")
        return sub

    def target(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--target",
            type=Path,
            metavar="DIR",
            help="work in place on a checkout or a site-packages folder, not in build/",
        )

    def offline(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--offline", action="store_true", help="use the download cache alone")

    def source(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--upstream", type=Path, metavar="PATH", help="an sdist, a directory or a git checkout of upstream"
        )
        offline(sub)

    def device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--device", choices=("cpu", "npu"), default="cpu", help="where the smoke tests run (default: cpu)"
        )

    apply = command("apply", "patch vllm-ascend, check the result, swap it into place, smoke-test it")
    target(apply)
    source(apply)
    device(apply)
    apply.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    apply.add_argument("--no-smoke", action="store_true", help="leave the smoke tests out")
    status = command("status", "say whether a tree is pristine, applied, partial or modified", optional_set=True)
    target(status)
    revert = command("revert", "give upstream's exact bytes back", optional_set=True)
    target(revert)
    source(revert)
    record = command("record", "maintainers: write the set's digests into its set.toml")
    source(record)
    smoke = command("smoke", "run the smoke tests on the patched tree")
    device(smoke)
    offline(smoke)
    smoke.add_argument("--only", metavar="EXPRESSION", help="run the tests that pytest -k EXPRESSION selects")
    offline(command("upstream-tests", "run upstream's unit tests on the pristine and the patched tree"))
    offline(command("overlay-tests", "run the tests of the overlay and of the stand-in"))
    offline(command("defects", "show each upstream defect on the pristine tree, and that the patched one is rid of it"))
    command("stats", "count the lines that each patch and the overlay add and remove")
    offline(command("bench", "measure the patched tree against the pristine one"))
    offline(command("runtime", "build the Python environment of the smoke tests"))
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs one subcommand; the modules behind it are imported only when it is the one."""
    from patchset import commands

    handler = getattr(commands, arguments.command.replace("-", "_"))
    code: int = handler(arguments, terminal)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; no exception leaves it."""
    words = list(sys.argv[1:] if argv is None else argv)
    terminal = Terminal(as_json="--json" in words)
    try:
        return run(build_parser().parse_args(words), terminal)
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
        where = f"{error.filename}: " if error.filename else ""
        unavailable = Unavailable(
            f"{where}{error.strerror or error}", hint="mend the file, folder or disk, then run again"
        )
        return _fail(unavailable, terminal)
    except Exception as error:
        return _internal(error, words)


def _fail(error: PatchsetError, terminal: Terminal) -> int:
    if os.environ.get("PATCHSET_DEBUG"):
        traceback.print_exception(error)
    terminal.error(error)
    terminal.document({"error": {"kind": type(error).__name__, "exit_code": error.exit_code, **_data(error)}})
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
