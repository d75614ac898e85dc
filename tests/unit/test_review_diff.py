# SPDX-License-Identifier: Apache-2.0
"""review: lines, pairs and words are exactly those of the diff."""

from __future__ import annotations

import difflib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchset.review import code, diff
from patchset.review.code import Run
from patchset.review.diff import Kind
from patchset.sets import symbols

LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12)
USUAL = st.sampled_from(["a = 1", "    return a", "", "b(c)", "def f(x):", "x\x0cy", "\u2028"])
LINES = st.lists(USUAL | LINE, max_size=12)


def unified(path: str, old: list[str], new: list[str]) -> str:
    """The diff of two files whose every line ends."""
    body = difflib.unified_diff([f"{line}\n" for line in old], [f"{line}\n" for line in new], f"a/{path}", f"b/{path}")
    return f"diff --git a/{path} b/{path}\n" + "".join(body)


def text(line: code.Line) -> str:
    return "".join(run.text for run in line)


def shown(old: list[str], new: list[str]) -> diff.FileDiff:
    before, after = ("".join(f"{line}\n" for line in lines).encode() for lines in (old, new))
    (file,) = diff.read(unified("m.py", old, new), "p", {"m.py": before}, {"m.py": after})
    return file


@settings(deadline=None)
@given(LINES, LINES)
def test_lines_and_numbers_are_those_of_the_files(old: list[str], new: list[str]) -> None:
    if old == new:
        return
    file = shown(old, new)
    lines = [line for hunk in file.hunks for block in hunk.blocks for line in block.lines]
    for line in lines:
        assert bool(line.old) == (line.kind is not Kind.ADDED)
        assert bool(line.new) == (line.kind is not Kind.REMOVED)
        if line.old:
            assert text(line.line) == old[line.old - 1]
        if line.new:
            assert text(line.line) == new[line.new - 1]
    assert file.added == sum(line.kind is Kind.ADDED for line in lines)
    assert file.removed == sum(line.kind is Kind.REMOVED for line in lines)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), st.integers(1, 30))
def test_what_unfolds_is_what_lies_between_the_hunks(changed: list[int], between: int) -> None:
    old = [f"{number} = {number}" for number in range(11 * between)]
    new = [*old]
    for at in sorted(changed, reverse=True):
        new[at * between : at * between + 1] = ["new", "newer"] if at % 2 else []
    file = shown(old, new)
    unfolded = [line for hunk in file.hunks for line in (*hunk.above, *hunk.below)]
    assert all(text(line.line) == old[line.old - 1] == new[line.new - 1] for line in unfolded)
    there = [line.new for hunk in file.hunks for block in hunk.blocks for line in block.lines if line.new]
    numbers = [line.new for line in unfolded] + there
    assert len(numbers) == len({*numbers})  # none is there twice
    for hunk, after in pairwise(file.hunks):  # and where two hunks are near, nothing between them is missing
        first, last = (hunk.blocks[-1].lines[-1].new, after.blocks[0].lines[0].new)
        assert len(hunk.below) + len(after.above) == min(last - first - 1, 40)


@settings(deadline=None)
@given(LINES, LINES)
def test_a_pair_stands_in_one_row_and_rows_go_down(removed: list[str], added: list[str]) -> None:
    pairs = diff.pair_lines(removed, added)
    olds, news = diff.rows_of(len(removed), len(added), pairs)
    assert (len(olds), len(news)) == (len(removed), len(added))
    assert all(first < second for rows in (olds, news) for first, second in pairwise(rows))
    assert all(olds[pair.old] == news[pair.new] for pair in pairs)


@settings(deadline=None)
@given(LINES, LINES)
def test_what_is_not_marked_is_the_same_on_both_sides(removed: list[str], added: list[str]) -> None:
    for pair in diff.pair_lines(removed, added):
        old, new = removed[pair.old], added[pair.new]
        assert unmarked(old, pair.old_spans) == unmarked(new, pair.new_spans)


def unmarked(line: str, spans: tuple[diff.Span, ...]) -> str:
    kept = code.mark(code.plain(line), spans)
    assert text(kept) == line
    return "".join(run.text for run in kept if not run.changed)


@settings(deadline=None)
@given(st.text(max_size=200), st.sampled_from(["a.py", "a.md", "a.c", "a.sh", "a.json", "a.unknown", "Makefile"]))
def test_colours_never_change_the_text(content: str, path: str) -> None:
    assert [text(line) for line in code.lines(path, content)] == content.split("\n")


def test_colours_begin_where_a_function_does() -> None:
    source = b'"""A module.\n\nIt has text.\n"""\n\n\ndef f(x):\n    """Says."""\n    return "s"\n'
    (line,) = code.excerpt("m.py", source, 9, 9)
    assert line == (Run("    "), Run("return", "k"), Run(" "), Run('"s"', "s"))
    (inside,) = code.excerpt("m.py", source, 3, 3)
    assert inside == (Run("It has text.", "s"),)


def test_words_that_changed() -> None:
    file = shown(["    pad(rows, size)", "b"], ["    pad(rows, largest)", "b"])
    (block, *_) = file.hunks[0].blocks
    removed, added = block.lines
    assert [run.text for run in removed.line if run.changed] == ["size"]
    assert [run.text for run in added.line if run.changed] == ["largest"]
    assert removed.row == added.row == 1


def test_a_line_with_no_kin_is_not_marked_word_by_word() -> None:
    file = shown(["import os"], ["value = compute(3)"])
    assert not any(run.changed for line in file.hunks[0].changed for run in line.line)


@pytest.mark.parametrize(
    ("removed", "added", "pairs"),
    [
        (["one(a, b)"], ["zzz", "one(a, c)", "one(q)"], [(0, 1)]),  # the closest lines, not the first
        (["a b c d e f g h"], ["h g f e d c b a"], []),
        ([f"a{n} = 1" for n in range(200)], [f"a{n} = 2" for n in range(200)], []),  # too many to compare
    ],
)
def test_lines_that_are_versions_of_each_other(
    removed: list[str], added: list[str], pairs: list[tuple[int, int]]
) -> None:
    assert [(pair.old, pair.new) for pair in diff.pair_lines(removed, added)] == pairs


def test_a_file_without_a_last_newline_says_so() -> None:
    content = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n"
    (file,) = diff.read(content, "p", {}, {})
    assert [line.unended for line in file.hunks[0].changed] == [False, True]


@pytest.mark.parametrize(
    ("line", "name"), [(1, ""), (2, "A"), (3, "A"), (4, "A.f"), (5, "A.f"), (7, "A.f.g"), (8, "A"), (10, "h")]
)
def test_the_innermost_symbol(line: int, name: str) -> None:
    source = (
        b"import os\n@decorated\nclass A:\n    def f(self):\n        a = 1\n        if a:\n"
        b"            def g(): pass\n    b = 2\nc = 3\nasync def h(): pass\n"
    )
    assert symbols.at(source, "m.py", line) == name


def test_no_symbol_where_python_cannot_be_read() -> None:
    assert symbols.at(b"def f(:\n", "m.py", 1) == ""
    assert symbols.at(b"def f(): pass\n", "m.txt", 1) == ""
    assert symbols.at(None, "m.py", 1) == ""
    assert symbols.find(b"def f(): pass\n", "g") is None


@pytest.mark.parametrize(
    ("character", "name"), [("\u202e", "U+202E"), ("\u200b", "U+200B"), ("\x1b", "U+001B"), ("\r", "U+000D")]
)
def test_characters_that_hide_are_named(character: str, name: str) -> None:
    assert name in code.html(code.plain(f"a{character}b"))
    assert character not in code.html(code.plain(f"a{character}b"))
    assert code.html((Run("<script>", "s", True),)) == '<i class="s x">&lt;script&gt;</i>'
    assert code.reveal(f"a{character}b") == f"a[{name}]b"
