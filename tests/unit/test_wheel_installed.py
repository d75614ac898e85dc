# SPDX-License-Identifier: Apache-2.0
"""Finding the wheel that an installer left, for `patchset smoke --installed`."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PACKAGE, SET, World
from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, name, publish, tree

from patchset.node.errors import PinMismatch, UsageError
from patchset.proof import installed
from patchset.sets.setfile import load_set


@pytest.fixture
def venv(world: World, tmp_path: Path) -> Path:
    """A folder laid out as a virtual environment, with the patched wheel installed by pypa/installer."""
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    folder = tmp_path / "venv"
    site = folder / "lib" / "python3.11" / "site-packages"
    schemes = {scheme: str(site) for scheme in ("purelib", "platlib")} | {"scripts": str(folder / "bin")}
    with WheelFile.open(dist(world) / name(TAGS[0], PATCHED)) as source:
        destination = SchemeDictionaryDestination(schemes, interpreter="/usr/bin/python3", script_kind="posix")
        install(source, destination, additional_metadata={"INSTALLER": b"installer"})
    return folder


def test_a_virtual_environment_or_its_site_packages(venv: Path) -> None:
    site = venv / "lib" / "python3.11" / "site-packages"
    for given in (venv, site):
        assert installed.site_packages(load_set(SET), given) == site


def test_the_package_and_its_metadata_alone(venv: Path, tmp_path: Path) -> None:
    patch_set = load_set(SET)
    site = installed.site_packages(patch_set, venv)
    (site / "torch").mkdir()
    (site / PACKAGE / "kernels.so").touch()
    for device in ("npu", "cpu", "npu", "cpu"):
        place = installed.alone(patch_set, site, tmp_path / "alone", device)
        assert sorted(path.name for path in place.iterdir()) == [PACKAGE, PATCHED_INFO]
        assert (place / PACKAGE / "kernels.so").exists() == (device == "npu")  # the stand-in has its own
    assert (place / PACKAGE / "data_parallel" / "plan.py").read_text() == "answer = 42\n"
    assert tree(site)  # links were removed, not what they point to


def test_nothing_installed(venv: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="has no installation of tiny_ascend"):
        installed.site_packages(load_set(SET), tmp_path)
    assert world.run("smoke", SET, "--installed", str(tmp_path)) == 2


def test_an_editable_installation(venv: Path) -> None:
    site = venv / "lib" / "python3.11" / "site-packages"
    (site / PACKAGE).rename(venv / "moved")
    with pytest.raises(UsageError, match="metadata and not its files"):
        installed.site_packages(load_set(SET), venv)


@pytest.mark.parametrize("change", ["edited", "added", "removed"])
def test_what_the_set_does_not_make(venv: Path, change: str, world: World) -> None:
    file = venv / "lib" / "python3.11" / "site-packages" / PACKAGE / "comm.py"
    if change == "edited":
        file.write_text("x = 1\n")
    elif change == "added":
        file.with_name("more.py").write_text("")
    else:
        file.unlink()
    with pytest.raises(PinMismatch, match="fingerprint") as caught:
        installed.site_packages(load_set(SET), venv)
    assert "patchset verify --installed --path" in caught.value.hint
    assert world.run("smoke", SET, "--installed", str(venv)) == 5
