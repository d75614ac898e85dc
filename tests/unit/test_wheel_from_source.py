# SPDX-License-Identifier: Apache-2.0
"""FROM=source where it cannot work; tests/wheels builds the real tree."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import SET, World
from wheel_world import dist, publish, tree


@pytest.fixture(autouse=True)
def no_cann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.delenv("COMPILE_CUSTOM_KERNELS", raising=False)


def refused(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = world.run("wheels", SET, "--offline", "--from", "source", *words)
    assert not (world.root / "dist").exists()
    assert not list((world.root / "build").glob("*/wheel-*/"))
    said = capsys.readouterr().err
    lines = [line.partition(" ")[0] for line in said.splitlines()]
    assert (lines.count("error:"), lines.count("next:")) == (1, 1)
    return code, said


def test_kernels_need_cann(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = refused(world, capsys)
    assert code == 6
    assert "no CANN here" in said and "COMPILE_CUSTOM_KERNELS=0" in said
    monkeypatch.setenv("ASCEND_HOME_PATH", "/no/such/folder")
    assert "no folder /no/such/folder" in refused(world, capsys)[1]


def test_a_switch_that_upstream_would_not_read(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPILE_CUSTOM_KERNELS", "no")
    code, said = refused(world, capsys)
    assert code == 2
    assert "COMPILE_CUSTOM_KERNELS='no'" in said


def test_an_environment_without_the_build_requirements(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tool's own environment has no setuptools."""
    monkeypatch.setenv("COMPILE_CUSTOM_KERNELS", "0")
    code, said = refused(world, capsys, "--python", sys.executable)
    assert code == 6
    assert "could not build the wheel" in said and "setuptools" in said and "wheel-from-source.log" in said


def test_an_interpreter_that_is_none(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPILE_CUSTOM_KERNELS", "0")
    code, said = refused(world, capsys, "--python", str(tmp_path / "python"))
    assert code == 2
    assert "--python is an interpreter" in said


def test_an_upstream_that_is_not_the_sets(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPILE_CUSTOM_KERNELS", "0")
    checkout = world.checkout(tmp_path / "checkout")
    (checkout / "README.md").write_text("changed\n")
    code, said = refused(world, capsys, "--python", sys.executable, "--upstream", str(checkout))
    assert code == 5
    assert "README.md: changed" in said


def test_python_is_for_source_alone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("wheels", SET, "--offline", "--python", sys.executable) == 2
    assert "--python is for --from source" in capsys.readouterr().err


def test_earlier_wheels_stay(world: World) -> None:
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    before = tree(dist(world))
    assert world.run("wheels", SET, "--offline", "--from", "source") == 6
    assert tree(world.root / "dist") == {f"{SET}/{path}": data for path, data in before.items()}
