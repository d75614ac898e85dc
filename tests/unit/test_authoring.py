# SPDX-License-Identifier: Apache-2.0
"""export and fmt: commits and patch files are the same thing, byte for byte, or nothing is written."""

from __future__ import annotations

import re

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, World, git_diff, read_tree

EDIT = {f"{PACKAGE}/comm.py": UPSTREAM[f"{PACKAGE}/comm.py"].replace("'alltoall'", "'allgather'")}


@pytest.fixture
def applied(world: World) -> World:
    """The usual set, canonical and applied."""
    assert world.run("fmt", SET, "--offline") == 0
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    return world


def edit(world: World, path: str, old: str, new: str) -> None:
    file = world.tree / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def trailers(**changes: str) -> str:
    fields = {"Origin": "vendor", "Upstream-Status": "Pending", "Removal-Plan": "never"} | changes
    return "\n".join(f"{name}: {value}" for name, value in fields.items())


def test_apply_then_export_changes_no_byte(applied: World) -> None:
    before = read_tree(applied.folder)
    assert applied.run("export", SET, "--offline") == 0
    assert read_tree(applied.folder) == before


def test_fmt_writes_what_a_mail_tool_would_not(empty: World) -> None:
    """A signature, a diffstat, abbreviated ids, another order and a prefix: all gone, the change is the same."""
    diff = git_diff(UPSTREAM, {**UPSTREAM, **EDIT}, empty.root.parent / "d").replace(
        "@@ -1,5 +1,5 @@", "@@ -1,5 +1,5 @@"
    )
    short = "".join(
        f"index {line[6:16]}..{line[48:58]}{line[88:]}\n" if line.startswith("index ") else f"{line}\n"
        for line in diff.splitlines()
    )
    header = HEADER.format(subject="[PATCH v2 1/3] Choose once").replace(
        "Resolves: D1, D3\nOrigin: vendor", "Origin: vendor\nResolves: D1,\n D3"
    )
    mail = "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n" + header
    empty.add("0001-a.patch", f"{mail} {PACKAGE}/comm.py | 2 +-\n 1 file changed\n\n{short}-- \n2.39.5\n\n")
    assert empty.run("fmt", SET, "--offline") == 0
    wanted = "From " + "0" * 40 + " Mon Sep 17 00:00:00 2001\n" + HEADER.format(subject="Choose once") + diff
    assert (empty.folder / "0001-a.patch").read_text() == wanted
    before = read_tree(empty.folder)
    assert empty.run("fmt", SET, "--offline") == 0
    assert read_tree(empty.folder) == before


def test_fmt_dry_run_writes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_tree(world.folder)
    assert world.run("fmt", SET, "--offline", "--dry-run") == 0
    assert "would rewrite patches/v9.9.9/0001-steps.patch" in capsys.readouterr().out
    assert read_tree(world.folder) == before


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: data + b"+SILENTLY LOST\n", "text after a complete hunk"),
        (
            lambda data: data.replace(b"+++ b/tiny_ascend/runner.py", b"+++ b/tiny_ascend/other.py"),
            "expected '\\+\\+\\+ b/",
        ),
        (
            lambda data: data.replace(b" b/tiny_ascend/runner.py\n", b" b/../../etc/passwd\n", 1),
            "expected `diff --git a/PATH b/PATH`",
        ),
        (lambda data: data[data.index(b"---\n") :], "From is missing"),
        (lambda data: data[data.index(b"diff --git") :], "no `---` line"),
        (lambda data: data.replace(b"because", b"\xff\xfe"), "is not UTF-8"),
        (lambda data: data.replace(b"\n", b"\r\n"), "no `---` line"),
        (lambda data: data + b"+" * (50 * 1024 * 1024) + b"\n", "bytes; a patch has at most"),
        (lambda data: data.replace(b"-step_5 = 5\n", b"-step_5 = 6\n"), "does not apply"),
    ],
)
def test_fmt_and_apply_refuse_a_bad_patch(world: World, capsys: pytest.CaptureFixture[str], spoil, why: str) -> None:  # type: ignore[no-untyped-def]
    file = world.folder / "0001-steps.patch"
    file.write_bytes(spoil(file.read_bytes()))
    before = read_tree(world.folder)
    for command in ("fmt", "apply", "record"):
        assert world.run(command, SET, "--offline") == 3
        error = capsys.readouterr().err
        assert "0001-steps.patch" in error
        assert re.search(why, error), error
    assert read_tree(world.folder) == before
    assert not world.tree.exists()
