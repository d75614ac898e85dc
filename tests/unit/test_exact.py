# SPDX-License-Identifier: Apache-2.0
"""Applying at the very lines, and saying where the lines would fit; compared with git on random trees."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from conftest import HEADER, git, git_diff, write_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchset import exact, patchfile
from patchset.errors import PatchDoesNotApply
from patchset.git import blob_id

LINES = "".join(f"line {n}\n" for n in range(1, 21))


def patch_of(before: dict[str, str], after: dict[str, str], scratch: Path) -> patchfile.Patch:
    return patchfile.parse("x.patch", (HEADER.format(subject="x") + git_diff(before, after, scratch)).encode())


def single(before: str, after: str, tmp_path: Path) -> patchfile.FilePatch:
    return patch_of({"a.py": before}, {"a.py": after}, tmp_path / "scratch").files[0]


@pytest.mark.parametrize(
    ("now", "where"),
    [
        ("new first\n" + LINES, r"they stand at line 8 \(offset \+1\)"),
        (LINES.removeprefix("line 1\n"), r"they stand at line 6 \(offset -1\)"),
        ("new first\n" + LINES + LINES, r"they stand at line 8 \(offset \+1\) and 1 other place$"),
        (LINES.replace("line 8\n", "line eight\n"), "nowhere exactly; most alike is line 7, 6 of 7 lines"),
        ("something else\n", "nowhere in the file"),
        ("", "nowhere in the file"),
    ],
    ids=["later", "earlier", "twice", "one line differs", "another file", "an empty file"],
)
def test_a_misfit_says_where_it_would_fit(now: str, where: str, tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 10\n", "line ten\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=rf"(?m)where the lines would fit: {where}") as caught:
        exact.apply("x.patch", file, now.encode())
    assert (caught.value.patch, caught.value.path, caught.value.hunk, caught.value.exit_code) == (
        "x.patch",
        "a.py",
        1,
        3,
    )
    assert "expected:" in caught.value.message and "found:" in caught.value.message


def test_the_second_hunk_is_named(tmp_path: Path) -> None:
    file = single(LINES, LINES.replace("line 2\n", "").replace("line 18\n", "x\n"), tmp_path)
    with pytest.raises(PatchDoesNotApply, match=r"a\.py, hunk 2 of 2, line 17") as caught:
        exact.apply("x.patch", file, LINES.replace("line 17\n", "line seventeen\n").encode())
    assert "   17 | line 17" in caught.value.message and "   17 | line seventeen" in caught.value.message


def test_a_missing_newline_at_the_end_is_a_difference(tmp_path: Path) -> None:
    file = single("a\nb\n", "a\nc\n", tmp_path)
    with pytest.raises(PatchDoesNotApply, match="no newline"):
        exact.apply("x.patch", file, b"a\nb")


@pytest.mark.parametrize(
    ("before", "after", "now", "why"),
    [
        ({}, {"a.py": "x\n"}, b"x\n", "a.py is there already"),
        ({"a.py": "x\n"}, {}, None, "a.py is not there"),
        ({"a.py": "x\n"}, {"a.py": "y\n"}, None, "a.py is not there"),
        ({"a.py": "x\n"}, {}, b"x\ny\n", "the hunk ends the file and 1 more line follow"),
    ],
)
def test_a_file_that_should_not_or_should_be_there(
    before: dict[str, str], after: dict[str, str], now: bytes | None, why: str, tmp_path: Path
) -> None:
    file = patch_of(before | {"keep": ""}, after | {"keep": ""}, tmp_path / "scratch").files[0]
    with pytest.raises(PatchDoesNotApply, match=why):
        exact.apply("x.patch", file, now)


names = st.sampled_from(["a.py", "pkg/b.py", "pkg/deep/c.py", "caf\u00e9.py", "with space.py"])
line = st.sampled_from(
    [
        "x\n",
        "y\n",
        "\n",
        "    z\n",
        "--- a\n",
        "+++ b\n",
        "@@ -1 +1 @@\n",
        "\\ no\n",
        "diff --git a b\n",
        "\t\n",
        "\u2028\n",
        "\x0c\n",
    ]
)
content = st.builds(lambda lines, end: "".join(lines) + end, st.lists(line, max_size=30), st.sampled_from(["", "last"]))
trees = st.dictionaries(names, content, max_size=4)
fuzz = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def edits(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """A tree, and the tree after a few edits of lines, new files and deletions."""
    before = draw(trees)
    after = dict(before)
    for path in draw(st.lists(names, max_size=3)):
        if path in after and draw(st.booleans()):
            lines = exact_lines(after[path])
            at = draw(st.integers(0, len(lines)))
            lines[at : at + draw(st.integers(0, 2))] = draw(st.lists(line, max_size=2))
            after[path] = "".join(lines)
        elif path in after and draw(st.booleans()):
            del after[path]
        else:
            after[path] = draw(content)
    return before, after


def exact_lines(text: str) -> list[str]:
    return [part.decode() for part in exact.split(text.encode())]


def apply_all(patch: patchfile.Patch, tree: dict[str, str]) -> dict[str, str]:
    result = dict(tree)
    for file in patch.files:
        data = exact.apply(patch.name, file, result[file.path].encode() if file.path in result else None)
        if data is None:
            del result[file.path]
        else:
            result[file.path] = data.decode()
    return result


@fuzz
@given(edits())
def test_apply_gives_the_edited_tree_and_backwards_the_first(pair: tuple[dict[str, str], dict[str, str]]) -> None:
    before, after = pair
    if before == after:
        return
    with tempfile.TemporaryDirectory() as folder:
        there = patch_of(before, after, Path(folder) / "there")
        back = patch_of(after, before, Path(folder) / "back")
    assert apply_all(there, before) == after
    assert apply_all(back, apply_all(there, before)) == before
    for file in there.files:
        assert file.old_blob == (blob_id(before[file.path].encode()) if file.path in before else "0" * 40)
        assert file.new_blob == (blob_id(after[file.path].encode()) if file.path in after else "0" * 40)


@fuzz
@given(edits(), trees)
def test_git_agrees_wherever_we_accept(pair: tuple[dict[str, str], dict[str, str]], other: dict[str, str]) -> None:
    """On another tree than the patch was made for, too: where we apply a patch, git makes the same of it."""
    before, after = pair
    if before == after:
        return
    with tempfile.TemporaryDirectory() as folder:
        patch = patch_of(before, after, Path(folder) / "made")
        for number, tree in enumerate((before, {**before, **other})):
            try:
                ours = apply_all(patch, tree)
            except PatchDoesNotApply:
                continue
            theirs = write_tree(Path(folder) / f"git-{number}", tree | {"keep": ""})
            git(theirs, "init", "-q")
            git(theirs, "apply", "--whitespace=nowarn", "-", stdin=patch.diff)
            found = {
                path.relative_to(theirs).as_posix(): path.read_bytes().decode()
                for path in theirs.rglob("*")
                if path.is_file() and ".git" not in path.parts
            }
            assert found == ours | {"keep": ""}
