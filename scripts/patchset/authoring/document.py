# SPDX-License-Identifier: Apache-2.0
"""Parts of Markdown documents that are made: a table, and what stands between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table, each of its lines ended.

    >>> table(("a", "b"), [("1|2", "")])
    '| a | b |\n| --- | --- |\n| 1\\|2 |  |\n'
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def filled(text: str, mark: str, content: str) -> str:
    r"""A document with other content between `<!-- mark -->` and the `<!-- end -->` after it.

    >>> filled("a\n<!-- b -->\nold\n<!-- end -->\n", "b", "new\n")
    'a\n<!-- b -->\n\nnew\n\n<!-- end -->\n'

    Raises KeyError: the document has no such marks.
    """
    before, head, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not end:
        raise KeyError(mark)
    return f"{before}{head}\n{content}\n{end}{after}"
