# SPDX-License-Identifier: Apache-2.0
"""Where the published wheels come from: the index, a wheelhouse, a single file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, World
from wheel_world import PATCHED, TAGS, dist, house, name, publish, tree


def made_names(world: World) -> list[str]:
    return sorted(path.name for path in dist(world).glob("*.whl"))


@pytest.fixture
def wheelhouse(world: World, tmp_path: Path) -> Path:
    """The published wheels, and what else lies in a wheelhouse."""
    folder = house(world, tmp_path / "wheelhouse")
    (folder / "torch-2.7.1-cp311-cp311-linux_x86_64.whl").write_bytes(b"not looked at")
    (folder / f"{PACKAGE}-9.8-cp311-cp311-linux_x86_64.whl").write_bytes(b"not looked at")
    return folder


def test_a_wheelhouse_makes_the_same_wheels(world: World, wheelhouse: Path) -> None:
    assert world.run("wheels", SET, "--offline") == 0
    before = tree(dist(world))
    assert world.run("wheels", SET, "--offline", "--upstream", str(wheelhouse)) == 0
    assert tree(dist(world)) == before


def test_of_a_wheelhouse_what_it_has(world: World, wheelhouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (wheelhouse / name(TAGS[0])).unlink()
    assert world.run("wheels", SET, "--offline", "--upstream", str(wheelhouse)) == 0
    assert made_names(world) == [name(TAGS[1], PATCHED)]
    assert f"lacks 1 of 2 wheels: {name(TAGS[0])}" in capsys.readouterr().err.replace("\n", " ")


def test_a_single_wheel(world: World, wheelhouse: Path) -> None:
    """The others go: dist/<set> is what the last run made, and its index lists no more than it holds."""
    assert world.run("wheels", SET, "--offline") == 0
    assert world.run("wheels", SET, "--offline", "--upstream", str(wheelhouse / name(TAGS[1]))) == 0
    assert made_names(world) == [name(TAGS[1], PATCHED)]
    listed = json.loads((dist(world) / "simple" / "tiny-ascend" / "index.json").read_text())["files"]
    assert [row["filename"] for row in listed] == [name(TAGS[1], PATCHED)]


@pytest.fixture
def served(world: World, index: str) -> dict[str, Path]:
    """The published wheels on an index, and not in the cache; their files by name."""
    project = world.served / "simple" / "vllm-ascend"
    files = {}
    for file, data in publish(world).items():
        (project / file).write_bytes(data)
        files[file] = project / file
        for cached in Path(world.cached).parents[1].glob(f"*/{file}"):
            cached.unlink()
    page = "".join(f'<a href="{file}">{file}</a>' for file in files)
    (project / "index.html").write_text(f"<html><body>{page}</body></html>")
    return files


def test_the_index_gives_what_is_not_cached(world: World, served: dict[str, Path]) -> None:
    assert world.run("wheels", SET) == 0
    assert made_names(world) == sorted(name(tag, PATCHED) for tag in TAGS)
    for file in served.values():
        file.unlink()
    assert world.run("wheels", SET, "--offline") == 0


def test_an_index_that_serves_another_file(
    world: World, served: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    served[name(TAGS[1])].write_bytes(b"another")
    assert world.run("wheels", SET) == 5
    assert name(TAGS[1]) in capsys.readouterr().err
    assert not (world.root / "dist").exists()


def test_an_index_without_one_of_the_wheels(
    world: World, served: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    page = world.served / "simple" / "vllm-ascend" / "index.html"
    page.write_text(page.read_text().replace(name(TAGS[1]), "other.whl"))
    assert world.run("wheels", SET) == 6
    assert f"has no {name(TAGS[1])}" in capsys.readouterr().err
    assert not (world.root / "dist").exists()
