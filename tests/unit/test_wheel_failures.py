# SPDX-License-Identifier: Apache-2.0
"""A run that fails or is cut off leaves dist/ as it was: nothing, or the earlier wheels whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, World
from wheel_world import PATCHED, TAGS, dist, name, publish, tree

from patchset.system import disk, lock, paths
from patchset.wheels import publish as publishing


@pytest.fixture
def published(world: World) -> World:
    publish(world)
    return world


def steps_of_a_run(world: World) -> list[str]:
    """Each change of the disk that a run makes, by name."""
    names: list[str] = []
    with stepping(names.append):
        assert world.run("wheels", SET, "--offline") == 0
    return names


@contextmanager
def stepping(hook) -> Iterator[None]:  # type: ignore[no-untyped-def]
    disk.before_step = hook
    try:
        yield
    finally:
        disk.before_step = None


class Full:
    """The disk is full from the nth change on."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, name: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


@pytest.mark.parametrize("earlier", [False, True], ids=["nothing before", "earlier wheels"])
def test_a_disk_that_fills_up_at_any_step(published: World, capsys: pytest.CaptureFixture[str], earlier: bool) -> None:
    assert published.run("wheels", SET, "--offline") == 0
    good = tree(dist(published))
    steps = steps_of_a_run(published)
    if earlier:
        published.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 43\n"})
        published.record()
    else:
        dist(published).rename(published.root / "elsewhere")
        (published.root / "dist").rmdir()
    for number in range(len(steps) - (not earlier)):
        capsys.readouterr()
        with stepping(Full(number)):
            assert published.run("wheels", SET, "--offline") == 6
        assert "No space left on device" in capsys.readouterr().err
        if earlier:
            assert tree(published.root / "dist") == {f"{SET}/{path}": data for path, data in good.items()}
        else:
            assert not (published.root / "dist").exists()
    assert published.run("wheels", SET, "--offline") == 0
    assert (tree(dist(published)) == good) is not earlier


def test_a_small_disk(published: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real file system with too little room, where this machine lets a test mount one."""
    small = published.root / "dist"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        assert published.run("wheels", SET, "--offline") == 6
        assert "No space left on device" in capsys.readouterr().err
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


CUT_OFF = """
import os, signal, sys
from patchset import cli
from patchset.system import disk
left = int(sys.argv[1])
def stop(name):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
disk.before_step = stop
sys.exit(cli.main(["wheels", sys.argv[2], "--offline"]))
"""


def test_a_run_that_is_killed_at_any_step(published: World) -> None:
    """What it left is taken back, or finished, by the next run; a reader sees old or new, or waits for a rename."""
    steps = steps_of_a_run(published)
    good = tree(dist(published))
    for number in (0, len(steps) // 2, len(steps) - 2, len(steps) - 1):
        killed = subprocess.run([sys.executable, "-c", CUT_OFF, str(number), SET], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not dist(published).exists() or tree(dist(published)) == good
        with publishing.staged(dist(published)) as staging:
            assert dist(published).exists()  # the earlier one is back in its place
            (staging / "x").write_bytes(b"")
        assert list((published.root / "dist").iterdir()) == [dist(published)]
        assert published.run("wheels", SET, "--offline") == 0
        assert tree(published.root / "dist") == {f"{SET}/{path}": data for path, data in good.items()}


def test_what_the_disk_gives_back_is_compared(
    published: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses a bit, between writing and reading back."""
    write = disk.write

    def lossy(path: Path, data: bytes, **rest: int) -> None:
        at = data.find(b"answer = 42")
        write(path, data[:at] + b"answer = 43" + data[at + 11 :] if path.suffix == ".whl" else data, **rest)

    monkeypatch.setattr(disk, "write", lossy)
    assert published.run("wheels", SET, "--offline") == 6
    assert "the disk gave other bytes back" in capsys.readouterr().err
    assert not (published.root / "dist").exists()


def test_another_run_at_the_same_time(published: World, capsys: pytest.CaptureFixture[str]) -> None:
    with lock.hold(paths.build_dir(SET) / ".wheels.lock"):
        assert published.run("wheels", SET, "--offline") == 7
    assert not (published.root / "dist").exists()


def test_a_changed_set_replaces_the_wheels_whole(published: World) -> None:
    assert published.run("wheels", SET, "--offline") == 0
    assert published.run("wheels", SET, "--offline", "--local", "dp.2") == 0
    names = {path.name for path in dist(published).glob("*.whl")}
    assert names == {name(tag, PATCHED.replace("dp.1", "dp.2")) for tag in TAGS}


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_not_replaced(
    published: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A web server's folder may be linked to; it must not be lost."""
    (tmp_path / "web").mkdir()
    dist(published).parent.mkdir()
    if kind == "link":
        dist(published).symlink_to(tmp_path / "web")
    else:
        dist(published).write_text("mine")
    assert published.run("wheels", SET, "--offline") == 2
    assert "is a link or a file" in capsys.readouterr().err
    assert [path.name for path in dist(published).parent.iterdir()] == [SET]
    assert dist(published).is_symlink() or dist(published).read_text() == "mine"
