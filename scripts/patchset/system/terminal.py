# SPDX-License-Identifier: Apache-2.0
"""What the user sees: progress on stderr, the product on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from patchset.node import table as plain
from patchset.node.errors import PatchsetError

if TYPE_CHECKING:
    from rich.console import Console


class Terminal:
    """stdout and stderr of one run. Off a TTY the lines are plain, and Rich is not even loaded; NO_COLOR is kept. With
    `as_json`, stdout is for one JSON document; tables and notes go nowhere."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.command = ""  # what runs; the document names it
        self.known: dict[str, Any] = {}  # what had been found before an error; the document of the error has it too

    def step(self, message: str) -> None:
        """Says on stderr what is done now."""
        _marked("*", "bold cyan", message)

    def note(self, message: str) -> None:
        """Prints a line of the product on stdout."""
        if not self.as_json:
            _print(sys.stdout, message)

    def warn(self, message: str) -> None:
        """Says on stderr what the user should know although the run goes on."""
        _marked("warning:", "bold yellow", message)

    def error(self, error: PatchsetError) -> None:
        """Says on stderr why the run failed, and the next step."""
        _marked("error:", "bold red", error.message)
        if error.hint:
            _marked("next:", "bold", error.hint)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
        """Prints a table on stdout; off a TTY its columns are as wide as their widest cell. The columns with a heading
        of `right`, in which spaces separate them, are aligned right."""
        if self.as_json:
            return
        aligned = right.split()
        if not sys.stdout.isatty():
            _print(sys.stdout, "\n".join([title, *plain.lines(columns, list(rows), aligned)]))
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        _console(sys.stdout).print(table)

    def document(self, value: Mapping[str, Any]) -> None:
        """Prints the JSON document, where JSON was asked for; its first member is the command."""
        if self.as_json:
            print(json.dumps({"command": self.command} | dict(value), indent=2), file=sys.stdout)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on stderr, or one line off a TTY; yields the function that advances it. The total is in the unit of the
        advances; 0 where it is not known."""
        if not sys.stderr.isatty():
            self.step(label)
            yield lambda _: None
            return
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("[bold cyan]*[/] {task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
            task = bar.add_task(escape(label), total=total or None)
            yield lambda amount: bar.advance(task, amount)
        self.step(label)


def _marked(mark: str, style: str, message: str) -> None:
    """Prints a line on stderr that begins with a coloured mark."""
    if not sys.stderr.isatty():
        _print(sys.stderr, f"{mark} {message}")
        return
    from rich.text import Text

    _console(sys.stderr).print(Text.assemble((mark, style), f" {message}"))


def _print(stream: TextIO, text: str) -> None:
    """Prints lines. The reader may leave: the command goes on, and its exit code stays its own."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@cache
def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)
