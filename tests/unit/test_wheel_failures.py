# SPDX-License-Identifier: Apache-2.0
"""A run that fails or is cut off leaves dist/ as it was: nothing, or the earlier wheels whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, Capture, World
from test_crash import killed_at
from wheel_world import dist, publish, tree

from patchset.system import disk, lock, paths
from patchset.wheels import make


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


def full_from(number: int) -> Callable[[str], None]:
    """The disk is full from the nth change on."""
    changes = count()

    def step(name: str) -> None:
        if next(changes) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    return step


@pytest.mark.parametrize("earlier", [False, True], ids=["nothing before", "earlier wheels"])
def test_a_disk_that_fills_up_at_any_step(published: World, capsys: Capture, earlier: bool) -> None:
    assert published.run("wheels", SET, "--offline") == 0
    good = tree(dist(published))
    steps = steps_of_a_run(published)
    if earlier:
        published.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 43\n"})
        published.pin()
    else:
        dist(published).rename(published.root / "elsewhere")
        (published.root / "dist").rmdir()
    for number in range(len(steps) - (not earlier)):
        capsys.readouterr()
        with stepping(full_from(number)):
            assert published.run("wheels", SET, "--offline") == 6
        assert "No space left on device" in capsys.readouterr().err
        if earlier:
            assert tree(published.root / "dist") == {f"{SET}/{path}": data for path, data in good.items()}
        else:
            assert not (published.root / "dist").exists()
    assert published.run("wheels", SET, "--offline") == 0
    assert (tree(dist(published)) == good) is not earlier


def test_a_run_that_is_killed_at_any_step(published: World) -> None:
    """What it left is taken back, or finished, by the next run; a reader sees old or new, or waits for a rename."""
    steps = steps_of_a_run(published)
    good = tree(dist(published))
    for number in (0, len(steps) // 2, len(steps) - 2, len(steps) - 1):
        assert killed_at(number + 1, ["wheels", SET, "--offline"]) is None
        assert not dist(published).exists() or tree(dist(published)) == good
        with make.staged(dist(published)) as staging:
            assert dist(published).exists()  # the earlier one is back in its place
            (staging / "x").write_bytes(b"")
        assert list((published.root / "dist").iterdir()) == [dist(published)]
        assert published.run("wheels", SET, "--offline") == 0
        assert tree(published.root / "dist") == {f"{SET}/{path}": data for path, data in good.items()}


def test_what_the_disk_gives_back_is_compared(
    published: World, capsys: Capture, monkeypatch: pytest.MonkeyPatch
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


def test_another_run_at_the_same_time(published: World, capsys: Capture) -> None:
    with lock.hold(paths.build_dir(SET) / ".wheels.lock"):
        assert published.run("wheels", SET, "--offline") == 7
    assert not (published.root / "dist").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_not_replaced(published: World, tmp_path: Path, capsys: Capture, kind: str) -> None:
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
