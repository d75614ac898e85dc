# SPDX-License-Identifier: Apache-2.0
"""Ways in which patch tools have failed without a word; none of them may happen here."""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from pathlib import Path

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, Capture, World, git, git_diff, read_tree

from patchset.plan import history
from patchset.system import lock
from patchset.system.state import Store
from patchset.target.locate import build_tree

EDIT = {f"{PACKAGE}/comm.py": UPSTREAM[f"{PACKAGE}/comm.py"].replace("'alltoall'", "'allgather'")}


def test_t1_git_apply_skips_files_in_a_folder_of_another_repository(world: World) -> None:
    """The build tree lies inside a repository; plain `git apply` there exits 0 and changes nothing."""
    git(world.root, "init", "-q")
    inside = world.root / "build" / "plain"
    inside.mkdir(parents=True)
    (inside / PACKAGE).mkdir()
    (inside / PACKAGE / "comm.py").write_text(UPSTREAM[f"{PACKAGE}/comm.py"])
    diff = git_diff(UPSTREAM, {**UPSTREAM, **EDIT}, world.root.parent / "t1").encode()
    done = subprocess.run(["git", "apply"], cwd=inside, input=diff, capture_output=True, check=False)
    assert (done.returncode, (inside / PACKAGE / "comm.py").read_text()) == (0, UPSTREAM[f"{PACKAGE}/comm.py"])

    assert world.run("apply", SET, "--no-smoke") == 0
    assert read_tree(world.tree) == world.expected()
    assert git(world.tree, "rev-parse", "--show-toplevel").strip() == str(world.tree.resolve())


def test_t2_an_undercounted_hunk_is_refused(empty: World, capsys: Capture) -> None:
    """`git apply --check`, `patch --dry-run` and unidiff all accept it, and drop the line."""
    diff = git_diff(UPSTREAM, {**UPSTREAM, **EDIT}, empty.root.parent / "t2")
    text = HEADER.format(subject="Lose a line") + diff + "+SILENTLY LOST\n"
    plain = empty.root.parent / "plain"
    (plain / PACKAGE).mkdir(parents=True)
    (plain / PACKAGE / "comm.py").write_text(UPSTREAM[f"{PACKAGE}/comm.py"])
    git(plain, "init", "-q")
    assert git(plain, "apply", "--check", "-", stdin=text.encode()) == ""

    empty.add("0001-lost.patch", text)
    assert empty.run("apply", SET, "--no-smoke") == 3
    line = text.count("\n")
    error = capsys.readouterr().err
    assert f"0001-lost.patch:{line}: not what git makes of this patch" in error and "'+SILENTLY LOST'" in error
    assert not empty.tree.exists()


def test_t3_no_fuzz_and_no_offset(empty: World, capsys: Capture) -> None:
    """GNU patch takes both by default, git takes an offset; upstream is pinned, so here both mean a stale patch."""
    runner = UPSTREAM[f"{PACKAGE}/runner.py"]
    shifted = {**UPSTREAM, f"{PACKAGE}/runner.py": "# one line more\n# and another\n" + runner}
    edited = {**shifted, f"{PACKAGE}/runner.py": shifted[f"{PACKAGE}/runner.py"].replace("step_15 = 15", "step_15 = 0")}
    stale = git_diff(shifted, edited, empty.root.parent / "t3")
    plain = empty.root.parent / "plain"
    (plain / PACKAGE).mkdir(parents=True)
    (plain / PACKAGE / "runner.py").write_text(runner)
    git(plain, "init", "-q")
    git(plain, "apply", "-", stdin=stale.encode())
    assert "step_15 = 0\n" in (plain / PACKAGE / "runner.py").read_text()

    empty.add("0001-stale.patch", HEADER.format(subject="Stale") + stale)
    assert empty.run("apply", SET, "--no-smoke") == 3
    message = capsys.readouterr().err
    assert "0001-stale.patch does not apply: tiny_ascend/runner.py, hunk 1 of 1, line 14" in message
    assert "where the lines would fit: they stand at line 12 (offset -2)" in message
    assert "   14 | step_12 = 12" in message and "   14 | step_14 = 14" in message
    assert not empty.tree.exists()


def test_t4_success_is_what_is_read_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that says yes and does nothing is found out."""
    real = history.Repository.git

    def says_yes(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
        return "" if arguments[0] == "am" else real(self, *arguments, **keywords)

    monkeypatch.setattr(history.Repository, "git", says_yes)
    assert world.run("apply", SET, "--no-smoke") == 3
    assert world.run("pin", SET) == 3
    assert not world.tree.exists()


def test_t4_a_git_that_makes_another_file_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    real = history.Repository.git

    def other(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
        said = real(self, *arguments, **keywords)
        if arguments[0] == "am":
            file = self.root / PACKAGE / "runner.py"
            file.write_bytes(file.read_bytes() + b"more = 1\n")
        return said

    monkeypatch.setattr(history.Repository, "git", other)
    assert world.run("apply", SET, "--no-smoke") == 5
    assert "runner.py, read back, is not what the set pins" in capsys.readouterr().err
    assert not world.tree.exists()
    target = world.checkout(world.root.parent / "target")
    before = read_tree(target)
    assert world.run("apply", SET, "--target", str(target)) == 5
    assert read_tree(target) == before


def test_t4_a_file_that_changes_behind_our_back_fails_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target = world.checkout(world.root.parent / "target")
    from patchset.target import change

    real = change._replace

    def spoil(*arguments):  # type: ignore[no-untyped-def]
        real(*arguments)
        (target / PACKAGE / "data_parallel" / "plan.py").unlink(missing_ok=True)

    monkeypatch.setattr(change, "_replace", spoil)
    assert world.run("apply", SET, "--target", str(target)) == 5


def test_t5_a_missing_file_is_not_already_applied(world: World, capsys: Capture) -> None:
    """Reverse-applying a patch proves nothing; recorded digests do."""
    assert world.run("apply", SET, "--no-smoke") == 0
    (world.tree / PACKAGE / "runner.py").unlink()
    assert world.run("status", SET) == 1
    assert "modified" in capsys.readouterr().out
    assert world.run("apply", SET, "--no-smoke") == 4
    assert "tiny_ascend/runner.py: missing" in capsys.readouterr().err


def test_t5_a_tree_with_one_patch_of_a_sequence_is_partial(world: World, capsys: Capture) -> None:
    target = world.checkout(world.root.parent / "target")
    (target / PACKAGE / "old.py").unlink()
    assert world.run("status", SET, "--target", str(target)) == 1
    assert capsys.readouterr().out.startswith("partial: ")
    assert world.run("apply", SET, "--target", str(target)) == 0
    assert world.run("revert", SET, "--target", str(target)) == 0
    assert read_tree(target) == read_tree(world.checkout(world.root.parent / "fresh"))


def _hold(path: Path, ready: object, done: object) -> None:
    with lock.hold(path):
        ready.set()  # type: ignore[attr-defined]
        done.wait(20)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["apply", "revert", "status"])
def test_t10_two_runs_on_one_target_do_not_meet(world: World, command: str, capsys: Capture) -> None:
    from patchset.sets.setfile import load_set

    assert world.run("apply", SET, "--no-smoke") == 0
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(Store(build_tree(load_set(SET)).state).lock, ready, done))
    holder.start()
    try:
        assert ready.wait(20)
        assert world.run(command, SET) == 7
        assert f"process {holder.pid} is working on this target" in capsys.readouterr().err
    finally:
        done.set()
        holder.join()
    assert world.run(command, SET) == 0


def test_t10_many_runs_at_once_leave_one_good_tree(world: World) -> None:
    """Each ends with 1, for nothing has tested the tree, or 7, and the last word is a whole tree."""
    import sys

    command = [sys.executable, "-m", "patchset.cli", "apply", SET, "--no-smoke"]
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(4)]
    deadline = time.monotonic() + 60
    codes = [run.wait(max(deadline - time.monotonic(), 1)) for run in runs]
    assert 1 in codes and set(codes) <= {1, 7}
    assert read_tree(world.tree) == world.expected()
