# SPDX-License-Identifier: Apache-2.0
"""What the user sees: progress on stderr, the product on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from patchset.node.errors import PatchsetError

_WIDTH = 120  # columns of a table off a TTY


class _Console(Console):
    """A console whose reader may leave: the command goes on, and its exit code stays its own."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Terminal:
    """stdout and stderr of one run. Off a TTY, or with NO_COLOR, the lines are plain.

    Args:
        as_json: keep stdout for one JSON document; tables and notes then go nowhere.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDTH
        self._out = _Console(file=sys.stdout, highlight=False, soft_wrap=True, width=wide)
        self._err = _Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def step(self, message: str) -> None:
        """Says on stderr what is done now."""
        self._err.print(f"[bold cyan]*[/] {escape(message)}")

    def note(self, message: str) -> None:
        """Prints a line of the product on stdout."""
        if not self.as_json:
            self._out.print(escape(message))

    def warn(self, message: str) -> None:
        """Says on stderr what the user should know although the run goes on."""
        self._err.print(f"[bold yellow]warning:[/] {escape(message)}")

    def error(self, error: PatchsetError) -> None:
        """Says on stderr why the run failed, and the next step."""
        self._err.print(f"[bold red]error:[/] {escape(error.message)}")
        if error.hint:
            self._err.print(f"[bold]next:[/] {escape(error.hint)}")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
        """Prints a table on stdout.

        Args:
            title: the line above it.
            columns: the headings.
            rows: plain text cells.
            right: headings of the columns that are aligned right, separated by spaces.
        """
        if self.as_json:
            return
        from rich.table import Table  # not every command prints one

        table = Table(title=escape(title), title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in right.split() else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._out.print(table)

    def document(self, value: Any) -> None:
        """Prints the JSON document, where JSON was asked for."""
        if self.as_json:
            print(json.dumps(value, indent=2), file=sys.stdout)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on stderr, or one line off a TTY; yields the function that advances it.

        Args:
            label: what is done.
            total: how much there is of it, in the unit of the advances; 0 where it is not known.
        """
        if not self._err.is_terminal:
            self.step(label)
            yield lambda _: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("[bold cyan]*[/] {task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(escape(label), total=total or None)
            yield lambda amount: bar.advance(task, amount)
        self.step(label)
