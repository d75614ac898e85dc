# SPDX-License-Identifier: Apache-2.0
"""Killed before each step that changes the disk: the target is whole, or the next command says so and ends it."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, UPSTREAM, Capture, World, git, make_world, read_tree, usual

from patchset import cli
from patchset.system import disk

Arguments = list[str]
_NEVER = 10_000


def killed_at(which: int | str, arguments: Arguments) -> int | None:
    """Runs a command in a child that dies before its step of this number or name; the exit code, None where it died."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of a threaded test runner runs no threads
        child = os.fork()
    if child == 0:
        count = 0

        def die(name: str) -> None:
            nonlocal count
            count += 1
            if which in (count, name):
                os._exit(99)

        disk.before_step = die
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = 70
        try:
            code = cli.main(arguments)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == 99 else code


class Case:
    """A world and a target in it, which can be put back to how it was."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.world = usual(make_world(folder))
        self.kind = kind
        if kind == "build":
            self.target, self.words = self.world.tree, []
            self.upstream = {path: text.encode() for path, text in UPSTREAM.items()}
        else:
            make = self.world.checkout if kind == "checkout" else self.world.site_packages
            self.target = make(folder / "place" / "target")
            self.words = ["--target", str(self.target)]
            self.upstream = self.read()
        self.place = self.target.parent

    def command(self, name: str) -> Arguments:
        return [name, SET, *self.words, *(["--no-smoke", "--offline"] if name == "apply" else [])]

    def read(self) -> dict[str, bytes]:
        """The target's files, the state inside it left out."""
        files = read_tree(self.target) if self.target.exists() else {}
        return {path: data for path, data in files.items() if ".patchset/" not in path}

    def save(self) -> None:
        self.saved = self.place.with_name("saved")
        shutil.copytree(self.place, self.saved, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self.saved, self.place, symlinks=True)


def check_whole(case: Case, patched: dict[str, bytes], before: dict[str, bytes], capsys: Capture) -> None:
    """What status says is so, and no file is half written."""
    now = case.read()
    for path, data in now.items():
        if not disk.is_temporary(path) and not path.endswith("RECORD"):
            assert data in (patched.get(path), case.upstream.get(path)), path
    capsys.readouterr()
    deadline = time.monotonic() + 10
    while cli.main(["status", SET, *case.words, "--json"]) == 7 and time.monotonic() < deadline:
        capsys.readouterr()  # a child of the killed process that has not gone yet holds the lock with it
        time.sleep(0.05)
    status = json.loads(capsys.readouterr().out)
    assert "state" in status, status
    if status["state"] == "applied":
        assert now == patched
    elif status["state"] == "pristine":
        assert now == case.upstream
    elif status["state"] == "absent":
        assert now == {} == before
    else:
        assert (status["state"], status["interrupted"] is not None) == ("partial", True)


@pytest.mark.parametrize(
    ("kind", "scenario"),
    [
        *(("build", scenario) for scenario in ("apply", "revert", "apply again")),
        *((kind, scenario) for kind in ("checkout", "site-packages") for scenario in ("apply", "revert")),
    ],
)
def test_killed_at_every_step(
    kind: str, scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PATCHSET_ROOT", str(tmp_path / "repo"))
    case = Case(tmp_path, kind)
    run: Callable[[str], int] = lambda name: cli.main(case.command(name))  # noqa: E731
    # What the two ends look like.
    case.place.mkdir(parents=True, exist_ok=True)
    if scenario == "apply":
        case.save()
    assert run("apply") == 0
    patched = case.read()
    if scenario == "revert":
        case.save()
    assert run("revert") == 0
    assert case.read() == case.upstream
    if scenario == "apply again":
        case.save()
    name = "revert" if scenario == "revert" else "apply"
    states: set[str] = set()
    for number in range(1, _NEVER):
        case.restore()
        before = case.read()
        code = killed_at(number, case.command(name))
        if code is not None:
            assert code == 0
            break
        check_whole(case, patched, before, capsys)
        other = "apply" if name == "revert" else "revert"
        follow = name if number % 2 else other
        assert run(follow) == 0, f"step {number}, then {follow}"
        ended = case.read()
        states.add(follow)
        if follow == "apply":
            assert ended == patched
        else:
            assert ended == (case.upstream if case.target.exists() else {})
        assert not [path for path in case.target.rglob("*") if disk.is_temporary(str(path))]
        if kind == "build" and case.target.exists():
            assert git(case.target, "status", "--porcelain") == ""
        if number % 4 < 2:
            assert run("apply") == 0
            assert case.read() == patched
    assert number > 10
    assert states == {"apply", "revert"}


GIT_LOCKS = ("index.lock", "HEAD.lock", f"refs/heads/{SET}.lock")


def test_the_locks_of_a_git_that_was_killed_too(world: World) -> None:
    """A kill of the whole process group hits git as well, whose lock files nobody would ever remove."""
    assert world.run("apply", SET, "--no-smoke") == 0
    for follow in (["revert", SET], ["apply", SET, "--no-smoke"]):
        assert killed_at("point git at the branch", ["revert", SET]) is None
        for name in GIT_LOCKS:
            (world.tree / ".git" / name).touch()
        assert world.run(*follow) == 0
        assert git(world.tree, "status", "--porcelain") == ""
        assert not list((world.tree / ".git").rglob("*.lock"))
        assert world.run("apply", SET, "--no-smoke") == 0


def test_the_lock_of_a_git_that_may_be_at_work_is_left(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke") == 0
    lock = world.tree / ".git" / "HEAD.lock"
    lock.touch()
    assert world.run("revert", SET) == 6
    assert "HEAD.lock" in capsys.readouterr().err
    lock.unlink()
    assert world.run("revert", SET) == 0


def test_a_failing_disk_takes_everything_back(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A full disk in the middle of the change: the run fails, the target is as before, nothing is left over."""
    target = world.checkout(world.root.parent / "target")
    before = read_tree(target)
    real = disk.write

    def full(path: Path, data: bytes, **keywords: object) -> None:
        if path == target / PACKAGE / "runner.py" and b"answer" in data:
            raise OSError(28, "No space left on device", str(path))
        real(path, data, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(disk, "write", full)
    assert world.run("apply", SET, "--target", str(target)) == 6
    assert "No space left on device" in capsys.readouterr().err
    assert read_tree(target) == before
    assert world.run("status", SET, "--target", str(target)) == 0
    assert not (target.parent / ".target.patchset").exists()


def test_someone_elses_edit_meanwhile_is_kept(world: World, capsys: Capture) -> None:
    """A run was cut off, then a file was edited: the next command refuses and names it."""
    target = world.checkout(world.root.parent / "target")
    words = ["apply", SET, "--target", str(target)]
    for number in range(1, _NEVER):
        if killed_at(number, words) is None and (target.parent / ".target.patchset" / "journal.json").exists():
            break
    (target / PACKAGE / "runner.py").write_text("mine = True\n")
    for command in ("apply", "revert"):
        assert world.run(command, SET, "--target", str(target)) == 4
        assert "tiny_ascend/runner.py" in capsys.readouterr().err
    assert (target / PACKAGE / "runner.py").read_text() == "mine = True\n"
    (target / PACKAGE / "runner.py").rename(target.parent / "mine.py")
    assert world.run("apply", SET, "--target", str(target)) == 0
    assert b"answer" in (target / PACKAGE / "runner.py").read_bytes()


def test_an_edit_between_looking_and_writing_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target = world.checkout(world.root.parent / "target")
    from patchset.target import change

    real = change.carry_out

    def edited_first(*arguments: object) -> None:
        (target / PACKAGE / "runner.py").write_text("mine = True\n")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(change, "carry_out", edited_first)
    assert world.run("apply", SET, "--target", str(target)) == 4
    assert (target / PACKAGE / "runner.py").read_text() == "mine = True\n"
    assert not (target / PACKAGE / "data_parallel").exists()
