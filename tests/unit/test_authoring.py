# SPDX-License-Identifier: Apache-2.0
"""Commits and files are the same thing, byte for byte; what cannot be is refused, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, World, git, git_diff, read_tree
from test_crash import killed_at

Capture = pytest.CaptureFixture[str]

EDIT = {f"{PACKAGE}/comm.py": UPSTREAM[f"{PACKAGE}/comm.py"].replace("'alltoall'", "'allgather'")}


@pytest.fixture
def applied(world: World) -> World:
    """The usual set, applied."""
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
PLAN = f"{PACKAGE}/data_parallel/plan.py"
WHY = "\n\nWhy: so."
OTHER, THIRD = "v9.9.10", "v9.9.11"


def commit(world: World, message: str) -> None:
    git(world.tree, "add", "-A")
    git(world.tree, "commit", "-q", "-F", "-", stdin=message.encode())


def written(world: World) -> dict[str, bytes]:
    """patches/ and overlay/ as they are."""
    return {path: data for path, data in read_tree(world.root).items() if not path.startswith("build/")}


def test_apply_then_export_changes_no_byte(applied: World) -> None:
    before, head = written(applied), git(applied.tree, "rev-parse", "HEAD")
    assert applied.run("export", SET, "--offline", "--check") == 0
    assert applied.run("export", SET, "--offline") == 0
    assert written(applied) == before
    assert git(applied.tree, "rev-parse", "HEAD") == head


def test_fmt_writes_what_a_mail_tool_would_not(empty: World, capsys: Capture) -> None:
    """A signature, a diffstat, short ids, a prefix, few trailers: the change is the same, the defaults are told."""
    diff = git_diff(UPSTREAM, {**UPSTREAM, **EDIT}, empty.root.parent / "d")
    short = re.sub(r"index (.{10}).{30}\.\.(.{10}).{30}", r"index \1..\2", diff)
    mail = "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
    mail += "From: A Maintainer <maintainer@example.invalid>\nDate: Mon, 02 Nov 2026 10:00:00 +0000\n"
    mail += "Subject: [PATCH v2 1/3] Choose once\nMessage-ID: <1@example.invalid>\n\nWhy: because.\n\n"
    mail += "How: so.\n\nResolves: D1, D3\n---\n"
    empty.add("0001-a.patch", f"{mail} {PACKAGE}/comm.py | 2 +-\n 1 file changed\n\n{short}-- \n2.39.5\n\n")
    assert empty.run("fmt", SET, "--offline") == 0
    assert "0001-a.patch: added Origin, Upstream-Status, Removal-Plan" in capsys.readouterr().out
    assert (empty.folder / "0001-a.patch").read_text() == HEADER.format(subject="Choose once") + diff
    before = read_tree(empty.folder)
    assert empty.run("fmt", SET, "--offline") == 0
    assert read_tree(empty.folder) == before
    assert empty.run("apply", SET, "--no-smoke", "--offline") == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-step_25 = 25\n", "-step_25 = 25\n+step_25b = 0\n"),
        ("-step_25 = 25\n", " step_25 = 25\n"),
        ("@@ -2,7 +2,7 @@", "@@ -2,6 +2,9 @@"),
        (" step_2 = 2\n", ""),
    ],
    ids=["a line more", "a line less", "miscounted", "less context"],
)
def test_fmt_mends_a_hunk_that_was_edited_by_hand(world: World, old: str, new: str) -> None:
    file = world.folder / "0001-steps.patch"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert world.run("apply", SET, "--offline") == 3
    assert world.run("fmt", SET, "--offline") == 0
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert world.run("export", SET, "--offline", "--check") == 0
    assert ("+step_25b" in file.read_text()) == ("step_25b" in new)


def test_fmt_dry_run_writes_nothing(world: World, capsys: Capture) -> None:
    file = world.folder / "0001-steps.patch"
    file.write_text(file.read_text() + "-- \n2.39.5\n")
    before = read_tree(world.folder)
    assert world.run("fmt", SET, "--offline", "--check") == 1
    assert world.run("fmt", SET, "--offline", "--dry-run") == 0
    assert "would rewrite patches/v9.9.9/0001-steps.patch" in capsys.readouterr().out
    assert read_tree(world.folder) == before


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda data: data.replace(b"+++ b/tiny_ascend/runner.py", b"+++ b/tiny_ascend/other.py"),
            "git (does not apply it|changes other files)|not what git makes",
        ),
        (lambda data: data.replace(b" b/tiny_ascend/runner.py\n", b" b/../../etc/passwd\n", 1), "0001-steps.patch"),
        (lambda data: data[data.index(b"diff --git") :], "0001-steps.patch"),
        (lambda data: data.replace(b"Date:", b"Origin: vendor\nDate:"), "git drops the mail header '?Origin"),
        (lambda data: data + b"+" * (50 * 1024 * 1024) + b"\n", "bytes; a patch has at most"),
        (lambda data: data.replace(b"-step_5 = 5\n", b"-step_5 = 6\n"), "does not apply"),
    ],
)
def test_fmt_and_apply_refuse_a_bad_patch(world: World, capsys: Capture, spoil, why: str) -> None:  # type: ignore[no-untyped-def]
    file = world.folder / "0001-steps.patch"
    file.write_bytes(spoil(file.read_bytes()))
    before = read_tree(world.folder)
    for command in ("fmt", "apply", "pin"):
        assert world.run(command, SET, "--offline") == 3
        error = capsys.readouterr().err
        assert "0001-steps.patch" in error
        assert re.search(why, error), error
    assert read_tree(world.folder) == before
    assert not world.tree.exists()


def test_a_commit_is_a_patch(applied: World, capsys: Capture) -> None:
    """A commit without trailers, an order of the author's, a message that is amended."""
    (applied.folder / "series").write_text("# ours\n" + (applied.folder / "series").read_text())
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    commit(applied, f"Count by hand: 20{WHY}\n")
    order = git(applied.tree, "rev-list", "--reverse", "upstream..HEAD").split()
    todo = applied.root.parent / "todo"
    todo.write_text("".join(f"pick {order[at]}\n" for at in (0, 1, 4, 2, 3)))
    git(applied.tree, "-c", f"sequence.editor=cp {todo}", "rebase", "-q", "-i", "upstream")
    capsys.readouterr()
    assert applied.run("export", SET, "--offline", "--dry-run") == 0
    assert "would write" in capsys.readouterr().out
    assert applied.run("export", SET, "--offline") == 0
    said = capsys.readouterr().out
    assert re.search(r"note: commit \w{10} \(Count by hand: 20\): added Origin, Upstream-Status, Removal-Plan", said)
    names = ["0001-steps.patch", "0004-count-by-hand-20.patch", "0002-hook.patch", "0003-drop-old.patch"]
    assert patch_names(applied) == ["# ours", *names]
    text = (applied.folder / "0004-count-by-hand-20.patch").read_text()
    assert (
        "\nWhy: so.\n\nOrigin: vendor\nUpstream-Status: Pending\nRemoval-Plan: when upstream does the same\n\n" in text
    )
    again(applied)


def test_a_patch_keeps_its_name(applied: World) -> None:
    """By its subject where its change is another, by its change where its subject is another."""
    said = git(applied.tree, "log", "-1", "--format=%B").replace("Do 0003-drop-old.patch", "Drop what is old")
    git(applied.tree, "commit", "-q", "--amend", "-F", "-", stdin=said.encode())
    edit(applied, RUNNER, "step_12 = 12\n", "step_12 = 120\n")
    git(applied.tree, "commit", "-qa", "--fixup=:/Do 0002")
    git(applied.tree, "-c", "sequence.editor=true", "rebase", "-q", "-i", "--autosquash", "upstream")
    assert applied.run("export", SET, "--offline") == 0
    assert patch_names(applied) == applied.names
    assert "Subject: Drop what is old\n" in (applied.folder / "0003-drop-old.patch").read_text()
    assert "+step_12 = 120\n" in (applied.folder / "0002-hook.patch").read_text()
    again(applied)


def test_a_module_goes_back_to_where_it_was(applied: World, capsys: Capture) -> None:
    """With the patch that was committed along with it; every set that shares it is pinned anew, and told."""
    applied.another(OTHER)
    edit(applied, PLAN, "42", "43")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    commit(applied, f"Count{WHY}")
    edit(applied, PLAN, "43", "44")
    commit(applied, "Another answer")
    capsys.readouterr()
    assert applied.run("export", SET, "--offline") == 0
    assert f"note: patches/{OTHER}/set.toml is pinned anew" in capsys.readouterr().out
    assert (applied.root / "overlay" / "shared" / PLAN).read_text() == "answer = 44\n"
    assert patch_names(applied) == [*applied.names, "0004-count.patch"]
    assert "plan.py" not in (applied.folder / "0004-count.patch").read_text()
    again(applied)
    toml = (applied.root / "patches" / OTHER / "set.toml").read_bytes()
    assert applied.run("pin", OTHER, "--offline") == 0
    assert (applied.root / "patches" / OTHER / "set.toml").read_bytes() == toml


@pytest.mark.parametrize(
    ("folder", "pinned"), [("shared", {THIRD}), (SET, set()), (f"{OTHER}+{SET}", {OTHER})], ids=["shared", "own", "few"]
)
def test_every_other_set_that_installs_a_module_is_pinned_anew(
    world: World, capsys: Capture, folder: str, pinned: set[str]
) -> None:
    """And no others: where a module is shared, the second set omits it here."""
    file = world.root / "overlay" / folder / PLAN
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("answer = 7\n")
    world.pin()
    world.another(OTHER)
    world.another(THIRD)
    if folder == "shared":
        (world.root / "overlay" / OTHER).mkdir()
        (world.root / "overlay" / OTHER / "overlay.toml").write_text(f'omits = ["{PLAN}"]\n')
        assert world.run("pin", OTHER, "--offline") == 0
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    edit(world, PLAN, "7", "8")
    commit(world, "Another answer")
    capsys.readouterr()
    assert world.run("export", SET, "--offline") == 0
    told = capsys.readouterr().out
    assert {name for name in (OTHER, THIRD) if f"note: patches/{name}/set.toml is pinned anew" in told} == pinned
    assert file.read_text() == "answer = 8\n"
    assert folder == "shared" or (world.root / "overlay" / "shared" / PLAN).read_text() == "answer = 42\n"
    again(world)
    for name in (OTHER, THIRD):
        assert world.run("apply", name, "--no-smoke", "--offline") == 0


def test_a_module_that_is_in_two_folders_is_not_deleted(world: World, capsys: Capture) -> None:
    own = world.root / "overlay" / SET / PLAN
    own.parent.mkdir(parents=True)
    own.write_text("answer = 7\n")
    world.pin()
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    (world.tree / PLAN).unlink()
    commit(world, "Drop it")
    assert world.run("export", SET, "--offline") == 2
    assert "is deleted in the tree, but there are" in capsys.readouterr().err


def test_a_new_module_is_asked_for_its_place(applied: World, capsys: Capture) -> None:
    path = f"{PACKAGE}/data_parallel/more.py"
    (applied.tree / path).write_text("more = 1\n")
    git(applied.tree, "add", "-A")
    git(applied.tree, "commit", "-q", "--fixup=:/Install the overlay")
    git(applied.tree, "-c", "sequence.editor=true", "rebase", "-q", "-i", "--autosquash", "upstream")
    before = written(applied)
    assert applied.run("export", SET, "--offline") == 2
    error = capsys.readouterr().err
    assert f"{path} is a new module: for every set, or for {SET} alone?" in error and f"overlay/{SET}/{path}" in error
    assert written(applied) == before
    (applied.root / "overlay" / "shared" / path).touch()
    assert applied.run("export", SET, "--offline") == 0
    assert (applied.root / "overlay" / "shared" / path).read_text() == "more = 1\n"
    again(applied)


def test_a_module_that_goes(applied: World) -> None:
    (applied.tree / f"{PACKAGE}/data_parallel/__init__.py").unlink()
    commit(applied, "No package")
    assert applied.run("export", SET, "--offline") == 0
    assert not (applied.root / "overlay" / "shared" / PACKAGE / "data_parallel" / "__init__.py").exists()
    again(applied)


def test_edits_of_the_overlay_by_hand_are_not_lost(applied: World, capsys: Capture) -> None:
    shared = applied.root / "overlay" / "shared" / PLAN
    other = shared.with_name("__init__.py")
    edit(applied, PLAN, "42", "43")
    commit(applied, "Another answer")
    for file, text in ((shared, "answer = 44\n"), (other, '"""Said by hand."""\n')):
        kept = file.read_text()
        file.write_text(text)
        before = written(applied)
        assert applied.run("export", SET, "--offline") == 4
        assert "has changed in overlay/ since the tree was made; nothing was written" in capsys.readouterr().err
        assert written(applied) == before
        file.write_text(kept)
    shared.write_text("answer = 43\n")
    assert applied.run("export", SET, "--offline") == 0
    assert shared.read_text() == "answer = 43\n"
    again(applied)


@pytest.mark.parametrize("authored", [False, True])
def test_edits_of_patches_by_hand_are_not_overwritten(applied: World, capsys: Capture, authored: bool) -> None:
    file = applied.folder / "0001-steps.patch"
    if authored:
        edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
        commit(applied, f"Count{WHY}")
    file.write_text(file.read_text().replace("Why: because.", "Why: because it must."))
    before = written(applied)
    assert applied.run("export", SET, "--offline") == 4
    assert "has changed since the tree was made; nothing was written" in capsys.readouterr().err
    assert written(applied) == before


def test_an_exported_tree_takes_the_next_change_of_the_patches(applied: World) -> None:
    """The state beside the tree is what export made, or its files would be nobody's as soon as patches/ differs."""
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    commit(applied, f"Count{WHY}\n\nHow: so.")
    assert applied.run("export", SET, "--offline") == 0
    file = applied.folder / "0004-count.patch"
    file.write_text(file.read_text().replace("+step_20 = 200", "+step_20 = 2000"))
    assert applied.run("fmt", SET, "--offline") == 0
    assert applied.run("apply", SET, "--no-smoke", "--offline") == 0
    assert "step_20 = 2000\n" in (applied.tree / RUNNER).read_text()


def test_no_commit_of_an_author_is_thrown_away(applied: World, capsys: Capture) -> None:
    said = git(applied.tree, "log", "-1", "--format=%B")
    said = said.replace("How: so.", "How: so, and more.")
    git(applied.tree, "commit", "-q", "--amend", "-F", "-", stdin=said.encode())
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
    assert "so, and more." in (applied.folder / "0003-drop-old.patch").read_text()


def test_a_conflict_is_gits_and_refuses_all_else(applied: World, capsys: Capture) -> None:
    git(applied.tree, "checkout", "-q", SET)
    edit(applied, RUNNER, "step_6 = answer\n", "step_6 = answer + 1\n")
    git(applied.tree, "commit", "-qa", "--fixup=:/Do 0001")
    with pytest.raises(Exception, match="rebase"):
        git(applied.tree, "-c", "sequence.editor=true", "rebase", "-q", "-i", "--autosquash", "upstream")
    for command in ("export", "apply", "revert"):
        assert applied.run(command, SET, "--offline") == 4
        assert f"git -C {applied.tree} rebase --continue, or --abort" in capsys.readouterr().err
    git(applied.tree, "rebase", "--abort")
    assert applied.run("export", SET, "--offline") == 2
    assert "waits to be squashed" in capsys.readouterr().err


def test_export_refuses_what_is_no_series(applied: World, capsys: Capture) -> None:
    before = written(applied)
    start = git(applied.tree, "rev-parse", "HEAD").strip()

    def refused(code: int, why: str, *, reset: bool = True) -> None:
        assert applied.run("export", SET, "--offline") == code
        error = capsys.readouterr().err
        assert why in error and "next:" in error, error
        assert written(applied) == before
        if reset:
            git(applied.tree, "reset", "-q", "--hard", start)

    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    refused(4, "has changes that are in no commit")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    commit(applied, "Without a reason")
    refused(3, "(Without a reason):1: there is no text that says why and how")
    git(applied.tree, "commit", "-q", "--allow-empty", "-m", "Nothing")
    refused(3, "changes nothing")
    (applied.tree / PACKAGE / "picture.bin").write_bytes(bytes(range(256)))
    commit(applied, f"A picture{WHY}")
    refused(3, "a binary patch is not supported")
    (applied.tree / RUNNER).chmod(0o755)
    commit(applied, f"A mode{WHY}")
    refused(3, "a mode change is not supported")
    (applied.tree / "link").symlink_to("README.md")
    commit(applied, f"A link{WHY}")
    refused(3, "only plain files are supported")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = (\n")
    commit(applied, f"A syntax error{WHY}")
    refused(3, "does not compile after 0004-a-syntax-error.patch: line ")
    edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
    commit(applied, f"Do 0001-steps.patch{WHY}")
    refused(2, "two commits have the subject 'Do 0001-steps.patch'")
    for line in ("---", "diff --git a/x b/x", "From 0123456789 Mon Sep 17 00:00:00 2001", "Index: x"):
        edit(applied, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
        commit(applied, f"A line that is taken for something else\n\nWhy: so.\n{line}\n\nmore\n")
        refused(3, "")
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


def test_export_needs_an_applied_tree(world: World, capsys: Capture) -> None:
    assert world.run("export", SET) == 2
    assert "make apply VERSION=v9.9.9 SMOKE=0" in capsys.readouterr().err


def test_json(applied: World, capsys: Capture) -> None:
    capsys.readouterr()
    assert applied.run("export", SET, "--offline", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["fmt", "export"])
def test_killed_while_it_writes(world: World, capsys: Capture, command: str) -> None:
    """At every step: patches/ and overlay/ are whole, or every other command refuses; the same one finishes it."""
    world.another(OTHER)
    if command == "export":
        assert world.run("apply", SET, "--no-smoke", "--offline") == 0
        edit(world, PLAN, "42", "43")
        edit(world, RUNNER, "step_20 = 20\n", "step_20 = 200\n")
        commit(world, f"Count{WHY}")
    else:
        for name in world.names[:2]:
            file = world.folder / name
            file.write_text(file.read_text() + "-- \n2.39.5\n")
    before = written(world)
    saved = shutil.copytree(world.root, world.root.parent / "saved", symlinks=True)
    assert world.run(command, SET, "--offline") == 0
    wanted = written(world)
    assert wanted != before
    half = 0
    for number in range(1, 400, 7):
        shutil.rmtree(world.root)
        shutil.copytree(saved, world.root, symlinks=True)
        code = killed_at(number, [command, SET, "--offline"])
        if code is not None:
            break
        if written(world) not in (before, wanted):
            half += 1
            for name in (SET, OTHER):
                assert world.run("pin", name, "--offline") == 2
                assert f"next: patchset {command} {SET} finishes it" in capsys.readouterr().err
            assert world.run("lint", "--offline") == 2
        assert world.run(command, SET, "--offline") == 0
        assert written(world) == wanted, number
        if number % 4 == 1:
            assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert code == 0 and half


CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
MAKEFILE = """\
export: ; @python -m patchset.cli export $(VERSION) --offline
fmt pin: ; @python -m patchset.cli $@ $(VERSION) --offline
apply:
\t@python -m patchset.cli $@ $(VERSION) --no-smoke --offline || [ $$? = 1 ] # 1: nobody has smoke-tested it
"""


def test_the_lines_of_contributing_work(applied: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly those of CONTRIBUTING.md, of which only names and places are put in."""
    import os
    import subprocess
    import sys

    lines = re.findall(r"(?ms)^```sh\n(.*?)^```$", CONTRIBUTING.read_text())[0].splitlines()
    assert len(lines) == 12
    (applied.root / "Makefile").write_text(MAKEFILE)
    upstream = applied.root.parent / "elsewhere"
    git(applied.root.parent, "clone", "-q", "-b", SET, str(applied.tree), str(upstream))
    git(upstream, "checkout", "-q", "-b", "main", "origin/upstream")
    (upstream / f"{PACKAGE}/comm.py").write_text(EDIT[f"{PACKAGE}/comm.py"])
    git(upstream, "commit", "-qam", f"Choose otherwise{WHY}")
    (upstream / "0001-foreign.patch").write_text(git(upstream, "format-patch", "-1", "--stdout"))
    (upstream / "README.md").write_text("from upstream\n")
    git(upstream, "commit", "-qam", "Read it\n\nIt was not read.\n\nSigned-off-by: B <b@example.invalid>")
    places = {
        "/path/to/0001-foreign.patch": str(upstream / "0001-foreign.patch"),
        "/path/to/vllm-ascend": str(upstream),
        "v0.10.1.1": SET,
        ":/Name a rank": ":/Do 0001-steps",
    }
    names = {f"GIT_{role}_NAME": "Me" for role in ("AUTHOR", "COMMITTER")}
    names |= {f"GIT_{role}_EMAIL": "me@example.invalid" for role in ("AUTHOR", "COMMITTER")}
    environ = {**os.environ, **names, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def follow(number: int, todo: str = "true", stdin: str = "") -> None:
        line = lines[number - 1]
        for word, place in places.items():
            line = line.replace(word, place)
        editors = {"GIT_EDITOR": "true", "GIT_SEQUENCE_EDITOR": todo, "PATCHSET_ROOT": str(applied.root)}
        done = subprocess.run(
            ["sh", "-ec", line],
            cwd=applied.tree,
            input=stdin.encode(),
            capture_output=True,
            env=environ | editors,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout.decode()}{done.stderr.decode()}"

    def patch(name: str) -> str:
        return (applied.folder / name).read_text()

    edit(applied, RUNNER, "step_28 = 28\n", "step_28 = 280\n")
    follow(1)
    edit(applied, RUNNER, "step_15 = 15\n", "step_15 = 150\n")
    follow(2)
    follow(3, todo="sed -i '/0003-drop-old/d; s/^pick \\(.*0002-hook\\)/edit \\1/'")
    follow(4, stdin="y\nn\n")
    follow(5)
    follow(6)
    follow(7)
    edit(applied, PLAN, "42", "43")
    follow(8)
    follow(9)
    assert patch_names(applied) == [
        "0001-steps.patch",
        "0004-the-first-half.patch",
        "0002-hook.patch",
        "0005-say-what-it-does.patch",
        "0006-choose-otherwise.patch",
        "0007-read-it.patch",
    ]
    assert "+step_28 = 280\n" in patch("0001-steps.patch") and "+step_15 = 150\n" in patch(
        "0005-say-what-it-does.patch"
    )
    assert ("new.py" in patch("0002-hook.patch"), "new.py" in patch("0004-the-first-half.patch")) == (True, False)
    assert "Origin: vendor" in patch("0007-read-it.patch") and "Signed-off-by: B" in patch("0007-read-it.patch")
    shared = applied.root / "overlay" / "shared" / PLAN
    assert shared.read_text() == "answer = 43\n"
    follow(12)
    file = applied.folder / "0005-say-what-it-does.patch"
    file.write_text(file.read_text().replace("+step_15 = 150\n", "+step_15 = 150\n+step_15b = 0\n"))
    follow(10)
    shared.write_text("answer = 44\n")
    follow(11)
    follow(12)
    assert (applied.tree / PLAN).read_text() == "answer = 44\n" and "step_15b" in (applied.tree / RUNNER).read_text()
    assert applied.run("status", SET) == 0
    again(applied)
