# SPDX-License-Identifier: Apache-2.0
"""Finding the wheel that an installer left, for `patchset smoke --installed`."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PACKAGE, SET, Capture, World
from verify_world import install_wheel
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, name, publish, tree

from patchset.node.errors import PinMismatch, UsageError
from patchset.proof import settle
from patchset.sets.setfile import load_set


@pytest.fixture
def venv(world: World, tmp_path: Path) -> Path:
    """A folder laid out as a virtual environment, with the patched wheel installed by pypa/installer."""
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    folder = tmp_path / "venv"
    install_wheel(dist(world) / name(TAGS[0], PATCHED), folder / "lib" / "python3.11" / "site-packages")
    return folder


def test_the_package_and_its_metadata_alone(venv: Path) -> None:
    """Of a virtual environment, or of its site-packages folder."""
    patch_set, site = load_set(SET), venv / "lib" / "python3.11" / "site-packages"
    (site / "torch").mkdir()
    (site / PACKAGE / "kernels.so").touch()
    for given, device in ((venv, "npu"), (site, "cpu"), (venv, "npu"), (site, "cpu")):
        place = settle.of_installation(patch_set, given, device).folder
        assert sorted(path.name for path in place.iterdir()) == [PACKAGE, PATCHED_INFO]
        assert (place / PACKAGE / "kernels.so").exists() == (device == "npu")  # the stand-in has its own
        assert (place / PATCHED_INFO).resolve() == site / PATCHED_INFO
    assert (place / PACKAGE / "data_parallel" / "plan.py").read_text() == "answer = 42\n"
    assert tree(site)  # links were removed, not what they point to


def test_nothing_installed(venv: Path, tmp_path: Path, world: World, capsys: Capture) -> None:
    with pytest.raises(UsageError, match="has no installation of tiny_ascend"):
        settle.of_installation(load_set(SET), tmp_path, "cpu")
    assert world.run("smoke", SET, "--installed", str(tmp_path)) == 2


def test_an_editable_installation(venv: Path) -> None:
    site = venv / "lib" / "python3.11" / "site-packages"
    (site / PACKAGE).rename(venv / "moved")
    with pytest.raises(UsageError, match="metadata and not its files"):
        settle.of_installation(load_set(SET), venv, "cpu")


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
        settle.of_installation(load_set(SET), venv, "cpu")
    assert "patchset verify --installed --path" in caught.value.hint
    assert world.run("smoke", SET, "--installed", str(venv)) == 5
