# SPDX-License-Identifier: Apache-2.0
"""Commits and patch files are the same thing, byte for byte; what cannot be is refused, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, World, git, git_diff, read_tree
from test_crash import killed_at

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


def patch_names(world: World) -> list[str]:
    return [name for name in (world.folder / "series").read_text().split("\n") if name]


def again(world: World) -> None:
    """What export wrote is what apply makes, on a tree of its own."""
    before = read_tree(world.tree)
    history = git(world.tree, "log", "--format=%s")
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert read_tree(world.tree) == before
    shutil.rmtree(world.tree)
    shutil.rmtree(world.tree.with_name(".vllm-ascend.patchset"))
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert read_tree(world.tree) == before
    assert sorted(git(world.tree, "log", "--format=%s").split()) == sorted(history.split())
    written = read_tree(world.folder)
    assert world.run("export", SET, "--offline") == 0
    assert read_tree(world.folder) == written


RUNNER = f"{PACKAGE}/runner.py"
FIELDS = ("--field", "Removal-Plan=never", "--body", "Why: so.", "--author", "An Author <a@example.invalid>")


def test_apply_then_export_changes_no_byte(applied: World) -> None:
    before = read_tree(applied.folder)
    assert applied.run("export", SET, "--offline", "--check") == 0
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
    assert world.run("fmt", SET, "--offline", "--check") == 1
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


def test_edit_and_refresh_change_one_patch(applied: World) -> None:
    assert applied.run("edit", SET, "0001-steps") == 0
    assert "step_6 = 6\n" in (applied.tree / RUNNER).read_text()
    edit(applied, RUNNER, "step_29 = 29\n", "step_29 = 290\n")
    assert applied.run("refresh", SET) == 0
    assert "step_6 = answer\n" in (applied.tree / RUNNER).read_text()
    assert applied.run("export", SET, "--offline") == 0
    assert "+step_29 = 290\n" in (applied.folder / "0001-steps.patch").read_text()
    again(applied)


def test_refresh_takes_changes_of_the_tip_into_a_patch(applied: World) -> None:
    edit(applied, RUNNER, "step_12 = 12\n", "step_12 = 120\n")
    (applied.tree / PACKAGE / "extra.py").write_text("extra = 1\n")
    assert applied.run("refresh", SET, "2") == 0
    assert applied.run("export", SET, "--offline") == 0
    text = (applied.folder / "0002-hook.patch").read_text()
    assert "+step_12 = 120\n" in text and "+++ b/tiny_ascend/extra.py" in text
    again(applied)


def test_a_conflict_is_left_to_resolve_and_goes_on(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_tree(applied.folder)
    edit(applied, RUNNER, "step_6 = answer\n", "step_6 = answer + 1\n")
    assert applied.run("refresh", SET, "0001-steps.patch") == 3
    error = capsys.readouterr().err
    assert f"conflicts in:\n  {RUNNER}\n  in {applied.tree}" in error
    assert f"patchset refresh {SET} --continue; or --abort" in error
    assert "<<<<<<<" in (applied.tree / RUNNER).read_text()
    for command, code in (("export", 4), ("apply", 4), ("revert", 4)):
        assert applied.run(command, SET, "--offline") == code
        assert "patchset edit v9.9.9 --continue, or --abort" in capsys.readouterr().err
    assert applied.run("refresh", SET, "--continue") == 3
    assert "still have conflict markers" in capsys.readouterr().err
    while "<<<<<<<" in (applied.tree / RUNNER).read_text():
        text = (applied.tree / RUNNER).read_text()
        (applied.tree / RUNNER).write_text(
            re.sub(r"<<<<<<< .*?\n(.*?)=======\n.*?>>>>>>> .*?\n", r"\1", text, flags=re.DOTALL)
        )
        edit(applied, RUNNER, "step_30 = 30", "step_30 = 30 + 0")
        code = applied.run("refresh", SET, "--continue")
        assert code in (0, 3)
    assert code == 0
    assert read_tree(applied.folder) == before
    assert applied.run("export", SET, "--offline") == 0
    assert "+step_30 = 30 + 0" in (applied.folder / "0001-steps.patch").read_text()
    again(applied)


def test_abort_gives_back_the_tree_and_the_changes_in_it(applied: World) -> None:
    edit(applied, RUNNER, "step_6 = answer\n", "step_6 = answer + 1\n")
    tree, head = read_tree(applied.tree), git(applied.tree, "rev-parse", "HEAD")
    assert applied.run("refresh", SET, "1") == 3
    assert applied.run("refresh", SET, "--abort") == 0
    assert (read_tree(applied.tree), git(applied.tree, "rev-parse", "HEAD")) == (tree, head)
    assert applied.run("refresh", SET, "--abort") == 2
    assert applied.run("drop", SET, "--continue") == 2


def test_drop_leaves_a_patch_out(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert applied.run("drop", SET, "3", "--dry-run") == 0
    assert "dry run, nothing was changed: dropped 0003-drop-old.patch" in capsys.readouterr().out
    assert applied.run("status", SET) == 0
    assert applied.run("drop", SET, "3") == 0
    assert (applied.tree / PACKAGE / "old.py").exists()
    assert applied.run("export", SET, "--offline", "--dry-run") == 0
    assert (applied.folder / "0003-drop-old.patch").exists()
    assert applied.run("export", SET, "--offline") == 0
    assert patch_names(applied) == ["0001-steps.patch", "0002-hook.patch"]
    assert not (applied.folder / "0003-drop-old.patch").exists()
    again(applied)


def test_drop_of_what_a_later_patch_needs_is_a_conflict(applied: World) -> None:
    head = git(applied.tree, "rev-parse", "HEAD")
    assert applied.run("drop", SET, "1", "--dry-run") == 3
    assert git(applied.tree, "status", "--porcelain") == "" and applied.run("status", SET) == 0
    assert applied.run("drop", SET, "1") == 3
    assert applied.run("drop", SET, "--abort") == 0
    assert git(applied.tree, "rev-parse", "HEAD") == head


def test_new_makes_a_patch_of_the_changes(applied: World) -> None:
    (applied.folder / "series").write_text("# ours\n" + (applied.folder / "series").read_text())
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    assert applied.run("new", SET, "Count further: 20", *FIELDS) == 0
    assert applied.run("export", SET, "--offline") == 0
    assert (applied.folder / "series").read_text().startswith("# ours\n0001-steps.patch\n")
    assert patch_names(applied)[-1] == "0004-count-further-20.patch"
    text = (applied.folder / "0004-count-further-20.patch").read_text()
    assert "From: An Author <a@example.invalid>\n" in text and "Forwarded: no\nUpstream-Status: Pending\n" in text
    again(applied)


def test_new_without_all_fields_waits_for_them(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_tree(applied.folder)
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    assert applied.run("new", SET, "Count", "--author", "An Author <a@example.invalid>") == 0
    assert "commit --amend, to add Removal-Plan, a text that says why and how" in capsys.readouterr().out
    assert applied.run("export", SET, "--offline") == 3
    assert "is no patch yet: 0004-count.patch:1: the header field Removal-Plan is missing" in capsys.readouterr().err
    assert read_tree(applied.folder) == before
    said = git(applied.tree, "log", "-1", "--format=%B").strip()
    said = said.replace("Count\n", "Count\n\n#3 is why, and how.\n") + "\nRemoval-Plan: never"
    git(applied.tree, "commit", "--amend", "-q", "-F", "-", stdin=said.encode())
    assert applied.run("export", SET, "--offline") == 0
    again(applied)


def test_an_empty_patch_is_filled_by_refresh(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert applied.run("new", SET, "Later", *FIELDS) == 0
    assert applied.run("export", SET, "--offline") == 3
    assert "changes nothing" in capsys.readouterr().err
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    assert applied.run("refresh", SET, "0004-later") == 0
    assert applied.run("export", SET, "--offline") == 0
    again(applied)


def test_ordinary_git_does_as_well(applied: World) -> None:
    """A commit without trailers of ours but the needed ones, an order of the author's, a message that is amended."""
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    message = "Count by hand\n\nWhy: so.\n\nOrigin: vendor\nUpstream-Status: Pending\nRemoval-Plan: when\n  it goes\n"
    git(applied.tree, "commit", "-q", "-a", "-F", "-", stdin=message.encode())
    order = git(applied.tree, "rev-list", "--reverse", "upstream..HEAD").split()
    todo = applied.root.parent / "todo"
    todo.write_text("".join(f"pick {order[at]}\n" for at in (0, 4, 1, 2, 3)))
    git(applied.tree, "-c", f"sequence.editor=cp {todo}", "rebase", "-q", "-i", "upstream")
    assert applied.run("export", SET, "--offline") == 0
    assert patch_names(applied) == [
        "0001-steps.patch",
        "0004-count-by-hand.patch",
        "0002-hook.patch",
        "0003-drop-old.patch",
    ]
    assert "Removal-Plan: when it goes\n" in (applied.folder / "0004-count-by-hand.patch").read_text()
    again(applied)


def test_import_of_a_patch_that_fits(applied: World) -> None:
    diff = git_diff(applied.now, {**applied.now, **EDIT}, applied.root.parent / "i")
    mail = applied.root.parent / "0001-choose-otherwise.patch"
    header = HEADER.format(subject="[PATCH] Choose otherwise").replace(
        "Removal-Plan: when upstream does the same\n", ""
    )
    mail.write_text(f"{header} one file\n\n{diff}-- \n2.39\n")
    assert applied.run("import", SET, str(mail)) == 3
    assert applied.run("import", SET, str(mail), "--field", "Removal-Plan=never", "--dry-run") == 0
    assert applied.run("status", SET) == 0
    assert applied.run("import", SET, str(mail), "--field", "Removal-Plan=never") == 0
    assert applied.run("export", SET, "--offline") == 0
    assert patch_names(applied)[-1] == "0001-choose-otherwise.patch"
    again(applied)


@pytest.mark.parametrize("resolve", [False, True])
def test_import_merges_three_way(applied: World, resolve: bool) -> None:
    """Made for pristine upstream, next to what the series changes: only its blobs say how to merge."""
    line = "step_5 = 5\n" if resolve else "step_8 = 8\n"
    edits = {RUNNER: UPSTREAM[RUNNER].replace(line, line[:-1] + "  # mine\n")}
    mail = applied.root.parent / "mine.patch"
    diff = git_diff(UPSTREAM, {**UPSTREAM, **edits}, applied.root.parent / "i")
    mail.write_text(HEADER.format(subject="Mine") + diff)
    assert applied.run("import", SET, str(mail)) == (3 if resolve else 0)
    if resolve:
        text = (applied.tree / RUNNER).read_text()
        assert "<<<<<<< " in text and "step_5 = 5  # mine\n" in text
        (applied.tree / RUNNER).write_text(
            re.sub(r"<<<<<<< .*?>>>>>>> .*?\n", "step_5 = 50  # mine\n", text, flags=re.DOTALL)
        )
        assert applied.run("import", SET, "--continue") == 0
    assert "# mine" in (applied.tree / RUNNER).read_text()
    assert "Conflicts" not in git(applied.tree, "log", "-1", "--format=%B")
    assert applied.run("export", SET, "--offline") == 0
    assert patch_names(applied)[-1] == "mine.patch"
    again(applied)


def test_import_of_what_fits_nowhere_changes_nothing(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    mail = applied.root.parent / "other.patch"
    before = {**UPSTREAM, RUNNER: "another = 1\n"}
    diff = git_diff(before, {**before, RUNNER: "another = 2\n"}, applied.root.parent / "i")
    mail.write_text(HEADER.format(subject="Other") + diff)
    assert applied.run("import", SET, str(mail)) == 3
    assert "what it was made from is not known here" in capsys.readouterr().err
    assert applied.run("status", SET) == 0


def test_no_commit_of_an_author_is_thrown_away(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    said = git(applied.tree, "log", "-1", "--format=%B")
    git(applied.tree, "commit", "-q", "--amend", "-F", "-", stdin=(said + "\nmore\n").encode())
    head = git(applied.tree, "rev-parse", "HEAD")
    assert applied.run("status", SET) == 1
    assert "has work of yours: a commit is not in patches/ (next: patchset export v9.9.9)" in capsys.readouterr().out
    for command in ("apply", "revert"):
        assert applied.run(command, SET, "--offline") == 4
        assert "next: patchset export v9.9.9" in capsys.readouterr().err
    git(applied.tree, "reset", "-q", "--hard", "HEAD~2")
    assert applied.run("apply", SET, "--offline") == 4
    assert "commits are dropped" in capsys.readouterr().err
    git(applied.tree, "reset", "-q", "--hard", head.strip())
    assert applied.run("export", SET, "--offline") == 0
    assert applied.run("apply", SET, "--no-smoke", "--offline") == 0


def test_export_refuses_what_is_no_series(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_tree(applied.folder)
    start = git(applied.tree, "rev-parse", "HEAD").strip()

    def refused(code: int, why: str, *, reset: bool = True) -> None:
        assert applied.run("export", SET, "--offline") == code
        error = capsys.readouterr().err
        assert why in error and "next:" in error
        assert read_tree(applied.folder) == before
        if reset:
            git(applied.tree, "reset", "-q", "--hard", start)

    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    refused(4, "has changes that are in no commit")
    edit(applied, f"{PACKAGE}/data_parallel/plan.py", "42", "43")
    git(applied.tree, "commit", "-qam", "Change the overlay")
    refused(2, "which the overlay installs")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    git(applied.tree, "commit", "-qam", "fixup! Do 0001-steps.patch")
    refused(2, "waits to be squashed")
    git(applied.tree, "mv", RUNNER, f"{PACKAGE}/walker.py")
    (applied.tree / PACKAGE / "picture.bin").write_bytes(bytes(range(256)))
    git(applied.tree, "add", ".")
    git(
        applied.tree,
        "commit",
        "-qm",
        "A picture\n\nWhy.\n\nOrigin: vendor\nUpstream-Status: Pending\nRemoval-Plan: never",
    )
    refused(3, "a binary patch is not supported")
    (applied.tree / RUNNER).chmod(0o755)
    git(
        applied.tree,
        "commit",
        "-qam",
        "A mode\n\nWhy.\n\nOrigin: vendor\nUpstream-Status: Pending\nRemoval-Plan: never",
    )
    refused(3, "a mode change is not supported")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    git(applied.tree, "commit", "-qam", "Twice\n\nWhy.\n\nOrigin: vendor\nPatch: 0001-steps.patch")
    refused(2, "are both 0001-steps.patch")
    git(applied.tree, "checkout", "-q", "-b", "side", "HEAD~1")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    git(applied.tree, "commit", "-qam", "Side")
    git(applied.tree, "checkout", "-q", SET)
    git(applied.tree, "merge", "-q", "--no-ff", "-m", "Merge", "side")
    refused(2, "is a merge")
    edit(applied, "README.md", "tiny", "small")
    git(applied.tree, "commit", "-qam", "Base")
    git(applied.tree, "branch", "-f", "upstream", "HEAD")
    refused(4, "README.md on branch upstream is not what the pinned release")


def test_authoring_needs_an_applied_tree(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["export", SET], ["edit", SET, "1"], ["drop", SET, "1"], ["new", SET, "x"], ["refresh", SET, "1"]):
        assert world.run(*words) == 2
        assert "make apply VERSION=v9.9.9 SMOKE=0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["edit", SET], "edit needs PATCH"),
        (["edit", SET, "nine"], "no patch of the tree is nine; there are\n  0001-steps.patch"),
        (["import", SET], "import needs FILE"),
        (["refresh", SET], "which patch?"),
        (["refresh", SET, "1"], "has no change to take into 1"),
        (["drop", SET, "--continue", "--abort"], "exclude each other"),
        (["new", SET, "x", "--field", "Colour=red"], "Colour is no field of a header"),
        (["new", SET, "x", "--field", "Colour"], "--field"),
        (["new", SET, "x"], "git does not know who you are"),
    ],
)
def test_usage(applied: World, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    head = git(applied.tree, "rev-parse", "HEAD")
    assert applied.run(*words) == 2
    assert why in capsys.readouterr().err
    assert git(applied.tree, "rev-parse", "HEAD") == head and applied.run("status", SET) == 0


def test_json(applied: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert applied.run("edit", SET, "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["patch"], document["next"]) == ("0002-hook.patch", "patchset refresh v9.9.9")
    assert applied.run("edit", SET, "--abort", "--json") == 0
    capsys.readouterr()
    assert applied.run("export", SET, "--offline", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] == []


@pytest.mark.parametrize("command", ["fmt", "export"])
def test_killed_while_it_writes(world: World, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """At every step: patches/ is whole, or every other command refuses it and the same one finishes it."""
    if command == "export":
        assert world.run("fmt", SET, "--offline") == 0
        assert world.run("apply", SET, "--no-smoke", "--offline") == 0
        assert world.run("drop", SET, "3") == 0
    before = read_tree(world.folder)
    assert world.run(command, SET, "--offline") == 0
    wanted = read_tree(world.folder)
    assert wanted != before
    half = 0
    for number in range(1, 100):
        for path in world.folder.iterdir():
            path.unlink()
        for name, data in before.items():
            (world.folder / name).write_bytes(data)
        code = killed_at(number, [command, SET, "--offline"])
        if code is not None:
            break
        if read_tree(world.folder) not in (before, wanted):
            half += 1
            assert world.run("record", SET, "--offline") == 2
            assert f"next: patchset {command} {SET} finishes it" in capsys.readouterr().err
            assert world.run("lint", "--offline") == 2
        assert world.run(command, SET, "--offline") == 0
        assert read_tree(world.folder) == wanted, number
    assert code == 0 and half
