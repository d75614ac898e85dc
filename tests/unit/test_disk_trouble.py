# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, read-only, someone else's or another one: one message, exit 6, and the target as it was."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SET, Capture, World, read_tree

from patchset import cli
from patchset.node.errors import unavailable
from patchset.system.disk import write

Mount = Callable[[Path, str], Path]
NOBODY = 65534


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts a tmpfs of a size on a folder; options can be changed by mounting again."""
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        again = ["-o", f"remount,{options}"] if folder in mounted else ["-o", options]
        done = subprocess.run(["mount", "-t", "tmpfs", *again, "tmpfs", str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        if folder not in mounted:
            mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """A file that leaves this many bytes of a disk."""
    filler = folder / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(folder).free - leave))
    return filler


def test_a_full_disk_is_named_where_the_system_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that says only at the end that it has no room."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    file = tmp_path / "file"
    with pytest.raises(OSError, match="No space left") as caught:
        write(file, b"", mode=0o644)
    assert str(unavailable(caught.value)) == f"{file}: No space left on device"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("leave", [0, 4096, 8192, 16384, 24576])
def test_a_full_disk_under_the_target(world: World, mount: Mount, leave: int, capsys: Capture) -> None:
    disk = mount(world.root.parent / "disk", "size=400k")
    target = world.checkout(disk / "target")
    before = read_tree(target)
    filler = fill(disk, leave)
    assert world.run("apply", SET, "--target", str(target)) == 6
    message = capsys.readouterr().err
    assert "No space left on device" in message and str(disk) in message and "next: " in message
    assert read_tree(target) == before
    assert world.run("status", SET, "--target", str(target)) == 0

    filler.unlink()
    assert world.run("apply", SET, "--target", str(target)) == 0
    filler = fill(disk, 0)
    assert world.run("revert", SET, "--target", str(target)) in (0, 6)  # the way back may need no room
    filler.unlink()
    assert world.run("revert", SET, "--target", str(target)) == 0
    assert read_tree(target) == before


def test_a_full_disk_under_the_build_folder(world: World, mount: Mount, capsys: Capture) -> None:
    disk = mount(world.root / "build", "size=400k")
    filler = fill(disk, 65536)
    assert world.run("apply", SET, "--no-smoke") == 6
    said = capsys.readouterr().err
    assert "No space left on device" in said and str(disk) in said
    assert not world.tree.exists()
    filler.unlink()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert read_tree(world.tree) == world.expected()


@pytest.mark.usefixtures("index")
def test_a_full_disk_under_the_cache(
    world: World, mount: Mount, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    cache = mount(world.root.parent / "cache", "size=64k")
    monkeypatch.setenv("PATCHSET_CACHE", str(cache))
    shutil.rmtree(world.root / "build")  # where recording the set has put upstream
    filler = fill(cache, 0)
    assert world.run("apply", SET, "--no-smoke") == 6
    said = capsys.readouterr().err
    assert "No space left on device" in said and str(cache) in said
    assert not world.tree.exists()
    filler.unlink()
    assert read_tree(cache) == {}
    assert world.run("apply", SET, "--no-smoke") == 0


def test_a_read_only_target(world: World, mount: Mount, capsys: Capture) -> None:
    disk = mount(world.root.parent / "disk", "size=4m")
    target = world.checkout(disk / "target")
    before = read_tree(target)
    mount(disk, "ro")
    assert world.run("apply", SET, "--target", str(target)) == 6
    assert "Read-only file system" in capsys.readouterr().err
    assert read_tree(target) == before
    assert world.run("status", SET, "--target", str(target)) == 0


def test_a_cache_that_vanishes(world: World, capsys: Capture) -> None:
    """The build tree is there; what the way back needs is in it, not in the cache."""
    assert world.run("apply", SET, "--no-smoke") == 0
    shutil.rmtree(os.environ["PATCHSET_CACHE"])
    assert world.run("revert", SET, "--offline") == 0
    shutil.rmtree(world.tree.parent)
    assert world.run("apply", SET, "--no-smoke", "--offline") == 6
    assert "is not in the cache" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
def test_no_permission(world: World) -> None:
    target = world.checkout(world.root.parent / "place" / "target")
    before = read_tree(target)
    for folder in (world.root.parent, *world.root.parent.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    assert as_nobody(["apply", SET, "--target", str(target), "--offline"]) == 6
    assert read_tree(target) == before
    assert world.run("apply", SET, "--target", str(target)) == 0
    patched = read_tree(target)
    assert as_nobody(["revert", SET, "--target", str(target)]) == 6
    assert read_tree(target) == patched


def as_nobody(words: list[str]) -> int:
    """A command's exit code, run by a user who may not write here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = cli.main(words)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
