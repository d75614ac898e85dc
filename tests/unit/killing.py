# SPDX-License-Identifier: Apache-2.0
"""Commands that are started as processes of their own, killed, and looked at: each with its world and its two ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, Capture, World, git, make_world, read_tree, usual
from port_world import NEARBY, NEW, RUNNER, SHIFTED, Releases, offering
from test_crash import Case, check_whole
from wheel_world import dist, publish, tree

from patchset import cli
from patchset.authoring.port import work

Words = list[str]


class Scenario:
    """One command in a world that can be put back to how it was.

    Attributes:
        place: what the command changes.
        words: the command.
        code: its exit code where nothing kills it.
    """

    place: Path
    words: Words
    code: int = 0

    def __init__(self, capsys: Capture) -> None:
        self.capsys = capsys

    def save(self) -> None:
        self.saved = self.place.with_name("saved")
        shutil.copytree(self.place, self.saved, symlinks=True)

    def start(self, *prefix: str) -> subprocess.Popen[bytes]:
        """The command on the world as it was saved, run by `prefix`."""
        shutil.rmtree(self.place)
        shutil.copytree(self.saved, self.place, symlinks=True)
        null = subprocess.DEVNULL
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # it could not end
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "patchset.cli", *self.words],
            stdout=null,
            stderr=null,
            env=environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )

    def run(self, *words: str) -> int:
        """Another command, once a child of the killed process that holds its lock with it has gone."""
        deadline = time.monotonic() + 10
        while (code := cli.main(list(words))) == 7 and time.monotonic() < deadline:
            time.sleep(0.05)
        return code

    def check(self, what: str, *, onward: bool) -> None:
        """What the disk holds is whole, or says that it is not; the next command finishes it or takes it back."""
        raise NotImplementedError


class OnTarget(Scenario):
    """apply or revert, of the build tree or in place."""

    def __init__(self, folder: Path, kind: str, name: str, capsys: Capture) -> None:
        super().__init__(capsys)
        self.case, self.name = Case(folder, kind), name
        self.code = 1 if name == "apply" else 0  # the child's tree has passed no smoke test
        self.place = self.case.place
        self.place.mkdir(parents=True, exist_ok=True)
        self.words = self.case.command(name)
        if name == "apply":
            self.save()
        before = self.case.read() if self.case.target.exists() else {}
        assert cli.main(self.case.command("apply")) == 0
        self.patched = self.case.read()
        if name == "revert":
            self.save()
        self.before = self.patched if name == "revert" else before

    def check(self, what: str, *, onward: bool) -> None:
        case = self.case
        check_whole(case, self.patched, self.before, self.capsys)
        follow = self.name if onward else {"apply": "revert", "revert": "apply"}[self.name]
        assert cli.main(case.command(follow)) == 0, what
        ended = case.read()
        if follow == "apply":
            assert ended == self.patched, what
        else:
            assert ended == (case.upstream if case.target.exists() else {}), what


class Wheels(Scenario):
    """The wheels, made where there are none or in the place of those of an earlier set."""

    def __init__(self, world: World, name: str, capsys: Capture) -> None:
        super().__init__(capsys)
        self.world, self.place = world, world.root
        self.words = ["wheels", SET, "--offline"]
        publish(world)
        if name == "again":
            world.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 41\n"})
            world.pin()
            assert cli.main(self.words) == 0
            world.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 42\n"})
            world.pin()
        self.before = tree(dist(world))
        self.save()
        assert cli.main(self.words) == 0
        self.made = tree(dist(world))
        assert self.made != self.before

    def check(self, what: str, *, onward: bool) -> None:
        found = tree(dist(self.world))
        aside = self.world.root / "dist" / f".{SET}.old"
        assert found in (self.before, self.made) or (found == {} and tree(aside) == self.before), what
        if found == self.made and onward:
            assert cli.main(["verify", "--dist", str(dist(self.world))]) == 0, what
        assert self.run(*self.words) == 0, what
        assert tree(self.world.root / "dist") == {f"{SET}/{path}": data for path, data in self.made.items()}, what


class Port(Scenario):
    """A port: without conflicts, finished after one, and forgotten."""

    def __init__(self, releases: Releases, name: str, capsys: Capture) -> None:
        super().__init__(capsys)
        self.releases, self.place = releases, releases.world.root
        self.name = name
        begin = ["port", "--from", SET, "--to", NEW]
        self.words = begin if name == "start" else ["port", f"--{name}"]
        self.before = self.read()
        self.begin = begin
        if name == "start":
            releases.offer({RUNNER: SHIFTED})
        else:
            releases.offer({RUNNER: NEARBY})
            assert cli.main(begin) == 3
            if name == "finish":
                (releases.tree / RUNNER).write_text(NEARBY.replace("step_5 = 5\n", "step_5 = 50\n"))
                git(releases.tree, "add", RUNNER)
                git(releases.tree, "-c", "core.editor=true", "rebase", "--continue")
        self.save()
        assert cli.main(self.words) == 0
        self.after = self.read()
        assert (self.after == self.before) == (name == "abort")

    def read(self) -> dict[str, bytes]:
        """patches/ and overlay/ as they are."""
        return {path: data for path, data in read_tree(self.place).items() if not path.startswith("build/")}

    def check(self, what: str, *, onward: bool) -> None:
        self.run("status", SET)
        under_way = NEW in work.running()
        if not under_way:
            assert self.read() in (self.before, self.after), what
        if onward and self.name != "abort":
            self.finish(under_way, what)
            assert self.read() == self.after, what
        elif under_way:
            code = self.run("port", "--abort")
            if self.read() == self.before:
                assert code == 0, what
            else:  # it was written before the process was killed
                assert (code, self.read()) == (2, self.after), what
        assert work.running() == []

    def finish(self, under_way: bool, what: str) -> None:
        if not under_way:
            if self.read() == self.before:
                assert self.name == "start", what
                assert self.run(*self.begin) == 0, what
            return
        assert self.run("port", "--finish") == 0, what


@contextmanager
def scenario(
    folder: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> Iterator[Scenario]:
    """The scenario of a name, in a world of its own."""
    monkeypatch.setenv("PATCHSET_ROOT", str(folder / "repo"))
    with ExitStack() as stack:
        if kind == "wheels":
            yield Wheels(usual(make_world(folder)), name, capsys)
        elif kind == "port":
            releases = stack.enter_context(offering(usual(make_world(folder)), monkeypatch))
            yield Port(releases, name, capsys)
        else:
            yield OnTarget(folder, kind, name, capsys)
