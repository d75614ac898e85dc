# SPDX-License-Identifier: Apache-2.0
"""Patched wheels: what is in them, what stays as it was, and what lies beside them."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib

import pytest
from conftest import PACKAGE, SET, World
from installer.sources import WheelFile
from wheel_world import DATE, INFO, PATCHED, PATCHED_INFO, TAGS, dist, members, name, pack, pin, publish, tree

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
def test_what_nothing_touches_stays_byte_for_byte(made: World, published: dict[str, bytes], tag: str) -> None:
    before = {one.path: one for one in entry.read(published[name(tag)], "upstream")}
    made_wheel = (dist(made) / name(tag, PATCHED)).read_bytes()
    after = {one.path: one for one in entry.read(made_wheel, "patched")}
    touched = {f"{PACKAGE}/runner.py", f"{PACKAGE}/old.py", f"{INFO}/METADATA", f"{INFO}/RECORD"}
    for path, one in before.items():
        if path not in touched:
            moved = path.replace(INFO, PATCHED_INFO)
            assert after[moved] == one.renamed(moved)
            assert one.stored in made_wheel
    assert after[f"{PACKAGE}/_C.so"].mode == stat.S_IFREG | 0o755
    assert after[f"{PACKAGE}/comm.py"].date == DATE
    order = [path.replace(INFO, PATCHED_INFO) for path in before if path not in touched]
    assert [path for path in after if path in order] == order


def test_new_and_changed_members_are_plain_files_of_a_fixed_date(made: World) -> None:
    with zipfile.ZipFile(dist(made) / name(TAGS[0], PATCHED)) as archive:
        for path in (f"{PACKAGE}/new.py", f"{PACKAGE}/data_parallel/plan.py", f"{PACKAGE}/runner.py"):
            info = archive.getinfo(path)
            assert info.external_attr >> 16 == stat.S_IFREG | 0o644
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.compress_type == zipfile.ZIP_STORED


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


@pytest.mark.parametrize("tag", TAGS)
def test_record_is_right(made: World, tag: str) -> None:
    with WheelFile.open(dist(made) / name(tag, PATCHED)) as source:
        source.validate_record()
        assert source.version == PATCHED
        assert source.dist_info_dir == PATCHED_INFO
        paths = [row.partition(",")[0] for row in source.read_dist_info("RECORD").splitlines()]
    assert len(paths) == len(set(paths)) and not [path for path in paths if path.endswith("/")]
    assert f"{PACKAGE}/old.py" not in paths


def test_the_same_bytes_each_time(made: World) -> None:
    before = tree(dist(made))
    assert made.run("wheels", SET, "--offline") == 0
    assert tree(dist(made)) == before


def test_sums_cover_everything(made: World) -> None:
    files = tree(dist(made))
    sums = files.pop("SHA256SUMS").decode()
    assert sums == "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))


def test_the_manifest_names_what_each_wheel_was_made_from(
    world: World, published: dict[str, bytes], capsys: pytest.CaptureFixture[str]
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
