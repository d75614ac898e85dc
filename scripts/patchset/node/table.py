# SPDX-License-Identifier: Apache-2.0
"""A table as plain lines: columns as wide as their widest cell, two spaces apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest


def lines(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> Iterator[str]:
    """The lines of a table, of which a cell may have several; the columns with a heading of `right` are aligned right.

    >>> list(lines(["name", "+"], [["a", "10"], ["b\\nor c", "1"]], right=["+"]))
    ['name   +', 'a     10', 'b      1', 'or c']
    """
    parted = [
        line for row in (columns, *rows) for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")
    ]
    widths = [max(map(len, cells)) for cells in zip(*parted)]
    for line in parted:
        cells = zip(columns, line, widths)
        yield "  ".join(cell.rjust(n) if name in right else cell.ljust(n) for name, cell, n in cells).rstrip()
