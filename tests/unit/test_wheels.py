# SPDX-License-Identifier: Apache-2.0
"""Patched wheels: what is in them and beside them, and where the published ones come from."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, Capture, World
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, house, members, name, pack, pin, publish, tree

from patchset.node.verify import entry


@pytest.fixture
def published(world: World) -> dict[str, bytes]:
    return publish(world)


@pytest.fixture
def made(world: World, published: dict[str, bytes]) -> World:
    assert world.run("wheels", SET, "--offline") == 0
    return world


@pytest.mark.parametrize("tag", TAGS)
def test_a_wheel_holds_the_patched_package(made: World, tag: str) -> None:
    with zipfile.ZipFile(dist(made) / name(tag, PATCHED)) as archive:
        found = {
            path: archive.read(path)
            for path in archive.namelist()
            if path.startswith(f"{PACKAGE}/") and not path.endswith("/")
        }
        assert archive.testzip() is None
    built = {f"{PACKAGE}/_build_info.py", f"{PACKAGE}/_C.so"}
    expected = {path: data for path, data in made.expected().items() if path.startswith(f"{PACKAGE}/")}
    assert {path: data for path, data in found.items() if path not in built} == expected
    assert built < found.keys()


@pytest.mark.parametrize("tag", TAGS)
def test_the_version_is_where_installers_look_and_nowhere_else(made: World, tag: str) -> None:
    file = dist(made) / name(tag, PATCHED)
    with zipfile.ZipFile(file) as archive:
        assert {path.partition("/")[0] for path in archive.namelist()} == {PACKAGE, PATCHED_INFO}
        metadata = archive.read(f"{PATCHED_INFO}/METADATA").decode()
        told = [path for path in archive.namelist() if PATCHED.encode() in archive.read(path)]
    assert metadata.splitlines()[2] == f"Version: {PATCHED}"
    assert metadata.endswith("\n\nVersion: is told in the text, too.\n")
    stated = ("METADATA", "patchset.json", "sboms/patchset.cdx.json", "sboms/patchset.intoto.json", "RECORD")
    assert told == [f"{PATCHED_INFO}/{member}" for member in stated]


def test_the_same_bytes_each_time(made: World) -> None:
    before = tree(dist(made))
    assert made.run("wheels", SET, "--offline") == 0
    assert tree(dist(made)) == before


def test_sums_cover_everything(made: World) -> None:
    files = tree(dist(made))
    sums = files.pop("SHA256SUMS").decode()
    assert sums == "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))


def test_the_manifest_names_what_each_wheel_was_made_from(
    world: World, published: dict[str, bytes], capsys: Capture
) -> None:
    capsys.readouterr()
    assert world.run("wheels", SET, "--offline", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    manifest = json.loads((dist(world) / "manifest.json").read_text())
    assert manifest == {key: value for key, value in printed.items() if key not in ("command", "folder")}
    assert manifest["version"] == PATCHED
    for tag, row in zip(TAGS, manifest["wheels"], strict=True):
        data = (dist(world) / row["file"]).read_bytes()
        assert row["file"] == name(tag, PATCHED)
        assert (row["sha256"], row["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert row["upstream"] == {
            "file": name(tag),
            "sha256": hashlib.sha256(published[name(tag)]).hexdigest(),
        }


def test_no_library_packs_a_byte(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib may be another on each machine, so nothing that is written went through it."""
    data = pack(members(TAGS[0]))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("compressed")

    for function in ("compress", "compressobj"):
        monkeypatch.setattr(zlib, function, forbidden)
    assert entry.write(entry.read(data, "w")) == data
    pin(world, {name(TAGS[0]): data})
    assert world.run("wheels", SET, "--offline") == 0


# Where the published wheels come from: the index, a wheelhouse, a single file.


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


def test_of_a_wheelhouse_what_it_has(world: World, wheelhouse: Path, capsys: Capture) -> None:
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


def test_an_index_that_serves_another_file(world: World, served: dict[str, Path], capsys: Capture) -> None:
    served[name(TAGS[1])].write_bytes(b"another")
    assert world.run("wheels", SET) == 5
    assert name(TAGS[1]) in capsys.readouterr().err
    assert not (world.root / "dist").exists()


def test_an_index_without_one_of_the_wheels(world: World, served: dict[str, Path], capsys: Capture) -> None:
    page = world.served / "simple" / "vllm-ascend" / "index.html"
    page.write_text(page.read_text().replace(name(TAGS[1]), "other.whl"))
    assert world.run("wheels", SET) == 6
    assert f"has no {name(TAGS[1])}" in capsys.readouterr().err
    assert not (world.root / "dist").exists()
