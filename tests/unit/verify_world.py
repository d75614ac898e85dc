# SPDX-License-Identifier: Apache-2.0
"""dist/<set> of the tiny upstream, made once; each test has its own copy to break."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import World, make_world, usual
from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, name, publish

from patchset.target import distinfo
from patchset.wheels import kit

WHEEL = name(TAGS[1], PATCHED)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("once")
        patch.setenv("PATCHSET_CACHE", str(folder / "cache"))
        world = make_world(folder)
        patch.setenv("PATCHSET_ROOT", str(world.root))
        usual(world)
        publish(world)
        assert world.run("wheels", world.folder.name, "--offline") == 0
        yield world


@pytest.fixture
def made(once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with its wheels made, copied for this test alone."""
    monkeypatch.setenv("PATCHSET_ROOT", str(tmp_path / "repo"))
    monkeypatch.setenv("PATCHSET_CACHE", str(once.root.parent / "cache"))
    shutil.copytree(once.root, tmp_path / "repo")
    return World(tmp_path / "repo", tmp_path / "served", dict(once.now), once.sdist, list(once.names))


def install_wheel(wheel: Path, site: Path) -> Path:
    """Installs a wheel as pip does: RECORD rewritten with INSTALLER, sources compiled."""
    site.mkdir(parents=True, exist_ok=True)
    scheme = {key: str(site) for key in ("purelib", "platlib", "headers", "scripts", "data")}
    destination = SchemeDictionaryDestination(scheme, sys.executable, "posix", bytecode_optimization_levels=(0,))
    with WheelFile.open(wheel) as source:
        install(source, destination, {"INSTALLER": b"pip\n", "REQUESTED": b""})
    return site


@pytest.fixture
def site(made: World, tmp_path: Path) -> Path:
    """A site-packages folder with one of the wheels installed."""
    return install_wheel(dist(made) / WHEEL, tmp_path / "site-packages")


def repack(wheel: Path, edit: Callable[[dict[str, bytes]], None], *, true_record: bool = False) -> Path:
    """Edits a wheel's members in place; with `true_record`, RECORD is made right again."""
    with zipfile.ZipFile(wheel) as archive:
        files = {path: archive.read(path) for path in archive.namelist() if not path.endswith("/")}
    edit(files)
    record = f"{PATCHED_INFO}/RECORD"
    if true_record:
        rows = [",".join(distinfo.row(path, data)) for path, data in files.items() if path != record]
        files[record] = "".join(f"{row}\n" for row in [*rows, f"{record},,"]).encode()
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return wheel


def edit_manifest(files: dict[str, bytes], edit: Callable[[dict[str, object]], None]) -> None:
    document = json.loads(files[f"{PATCHED_INFO}/patchset.json"])
    edit(document)
    files[f"{PATCHED_INFO}/patchset.json"] = json.dumps(document).encode()


def pyz(made: World, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """`patchset-node.pyz verify` on a bare interpreter: no site-packages, no environment, no network needed."""
    command = [python, "-I", "-S", str(dist(made) / kit.NAME), "verify", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
