# SPDX-License-Identifier: Apache-2.0
"""Wheels that must not be repacked: one clear error each, its exit code, and nothing left in dist/."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World
from wheel_world import (
    FILE,
    INFO,
    PATCHED,
    TAGS,
    Raw,
    dist,
    members,
    name,
    pack,
    pin,
    publish,
    with_record,
)

from patchset import archive
from patchset.wheels import entry

TAG = TAGS[0]


def refused(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code and message of a run that must leave nothing."""
    capsys.readouterr()
    code = world.run("wheels", SET, "--offline", *words)
    assert code and not (world.root / "dist").exists()
    said = capsys.readouterr().err
    lines = [line.partition(" ")[0] for line in said.splitlines()]
    assert (lines.count("error:"), lines.count("next:")) == (1, 1)
    return code, said


def edited(change: Callable[[list[Raw]], list[Raw]], *, true_record: bool = True) -> bytes:
    raws = change(members(TAG))
    return pack(with_record(raws) if true_record else raws)


def replaced(path: str, data: bytes) -> Callable[[list[Raw]], list[Raw]]:
    return lambda raws: [replace(raw, data=data) if raw.path == path else raw for raw in raws]


def without(path: str) -> Callable[[list[Raw]], list[Raw]]:
    return lambda raws: [raw for raw in raws if raw.path != path]


def plus(*more: Raw) -> Callable[[list[Raw]], list[Raw]]:
    return lambda raws: [*raws[:2], *more, *raws[2:]]


RUNNER = UPSTREAM[f"{PACKAGE}/runner.py"]
METADATA = f"Metadata-Version: 2.1\nName: tiny-ascend\nVersion: {PATCHED}\n\n".encode()
BOMB = Raw(f"{PACKAGE}/bomb.py", b"#" * 1_000_000)

PINNED = {
    "path above": (edited(plus(Raw(f"{PACKAGE}/../evil.py"))), 2, "leaves the tree"),
    "absolute path": (edited(plus(Raw("/etc/passwd"))), 2, "is not a relative path"),
    "drive letter": (edited(plus(Raw("C:/evil.py"))), 2, "is not a relative path"),
    "backslash": (edited(plus(Raw(f"{PACKAGE}\\evil.py"))), 2, "has a character that no upstream file name has"),
    "outside the package": (edited(plus(Raw("other/evil.py"))), 2, "lies outside tiny_ascend/"),
    "scripts": (edited(plus(Raw(f"{PACKAGE}-{'9.9rc1'}.data/scripts/evil"))), 2, "lies outside tiny_ascend/"),
    "differs only in case": (edited(plus(Raw(f"{PACKAGE}/Runner.py"))), 2, "differs from another only in case"),
    "file and folder": (edited(plus(Raw(f"{PACKAGE}/comm.py/x.py"))), 2, "is a file and a folder"),
    "link": (edited(plus(Raw(f"{PACKAGE}/l.py", b"comm.py", stat.S_IFLNK | 0o777))), 2, "is a link or a device"),
    "device": (edited(plus(Raw(f"{PACKAGE}/d", mode=stat.S_IFCHR | 0o644))), 2, "is a link or a device"),
    "fifo": (edited(plus(Raw(f"{PACKAGE}/f", mode=stat.S_IFIFO | 0o644))), 2, "is a link or a device"),
    "bomb by ratio": (edited(plus(BOMB)), 2, "is a zip bomb: 1000000 bytes from"),
    "no dist-info": (pack([raw for raw in members(TAG) if not raw.path.startswith(INFO)]), 2, "no .dist-info folder"),
    "two dist-infos": (edited(plus(Raw("x-1.dist-info/METADATA"))), 2, "has 2 .dist-info folders"),
    "no METADATA": (edited(without(f"{INFO}/METADATA")), 2, f"has no {INFO}/METADATA"),
    "no WHEEL": (edited(without(f"{INFO}/WHEEL")), 2, f"has no {INFO}/WHEEL"),
    "no RECORD": (edited(without(f"{INFO}/RECORD"), true_record=False), 2, f"has no {INFO}/RECORD"),
    "RECORD is no text": (edited(replaced(f"{INFO}/RECORD", b"\xff"), true_record=False), 2, "is not a CSV file"),
    "RECORD with four fields": (
        edited(replaced(f"{INFO}/RECORD", b"a,b,c,d\n"), true_record=False),
        2,
        "a row that is not three fields",
    ),
    "RECORD lists a file twice": (
        edited(
            lambda raws: replaced(f"{INFO}/RECORD", raws[-1].data + b"a,,\na,,\n")(raws),
            true_record=False,
        ),
        2,
        "lists a file twice",
    ),
    "file changed under its RECORD": (
        edited(replaced(f"{PACKAGE}/comm.py", b"tampered = True\n"), true_record=False),
        5,
        f"{PACKAGE}/comm.py is not what",
    ),
    "RECORD lists what is not there": (
        edited(without(f"{PACKAGE}/comm.py"), true_record=False),
        5,
        "not in the wheel",
    ),
    "a file that RECORD does not list": (
        edited(plus(Raw(f"{PACKAGE}/hidden.py")), true_record=False),
        5,
        "not in RECORD",
    ),
    "another version inside": (
        edited(replaced(f"{INFO}/METADATA", METADATA.replace(b"+dp.1", b".post1"))),
        5,
        "9.9rc1.post1",
    ),
    "another project inside": (
        edited(replaced(f"{INFO}/METADATA", METADATA.replace(b"+dp.1", b"").replace(b"tiny-", b"other-"))),
        5,
        "other-ascend",
    ),
    "patched already, inside": (edited(replaced(f"{INFO}/METADATA", METADATA)), 5, f"{PATCHED}"),
    "made by patchset": (edited(plus(Raw(f"{INFO}/patchset.json", b"{}"))), 5, "a wheel that patchset made"),
    "a patch does not fit": (
        edited(replaced(f"{PACKAGE}/runner.py", RUNNER.replace("step_5 ", "stepp_5 ").encode())),
        3,
        "0001-steps.patch does not apply: tiny_ascend/runner.py",
    ),
    "a patched file is missing": (
        edited(without(f"{PACKAGE}/runner.py")),
        5,
        f"{PACKAGE}/runner.py: missing",
    ),
    "another file is changed": (
        edited(replaced(f"{PACKAGE}/comm.py", b"other = True\n")),
        5,
        f"{PACKAGE}/comm.py: changed",
    ),
    "has what the set adds": (
        edited(plus(Raw(f"{PACKAGE}/data_parallel/plan.py", b""))),
        2,
        "data_parallel/plan.py, which the set adds",
    ),
    "not a zip": (b"hello", 2, "is not a readable zip archive"),
    "empty": (b"", 2, "is not a readable zip archive"),
    "cut short": (pack(members(TAG))[:-1], 2, "is not a readable zip archive"),
    "bytes before": (b"#!/bin/sh\n" + pack(members(TAG)), 2, "is no archive of its members alone"),
    "bytes after": (pack(members(TAG)) + b"more", 2, "is no archive of its members alone"),
}


@pytest.mark.parametrize(("data", "code", "message"), PINNED.values(), ids=PINNED.keys())
def test_a_pinned_wheel_is_audited(
    world: World, capsys: pytest.CaptureFixture[str], data: bytes, code: int, message: str
) -> None:
    """Even a wheel that a set pins by digest: whoever pins it has not looked inside."""
    pin(world, {name(TAG): data})
    found, said = refused(world, capsys)
    assert message in said
    assert found == code


def test_a_member_twice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = edited(plus(Raw(f"{PACKAGE}/comm.py", b"evil = True\n")))
    pin(world, {name(TAG): data})
    assert "is there twice" in refused(world, capsys)[1]


def test_sizes_are_taken_from_the_data_and_not_from_the_directory(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pack([*members(TAG)])
    real = next(one for one in entry.read(data, "w") if one.path == f"{PACKAGE}/runner.py")
    short = replace(real, size=10)
    entries = [short if one.path == real.path else one for one in entry.read(data, "w")]
    pin(world, {name(TAG): entry.write(entries)})
    assert "declares 10 bytes and has more" in refused(world, capsys)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 5_000}, "declares 5000 bytes and has fewer"),
        ({"crc": 1}, "its CRC-32 is another"),
        ({"stored": b"\xff" * 40}, "is damaged"),
        ({"method": 14}, "is packed with method 14"),
        ({"flags": 1}, "uses a feature of zip that no wheel needs"),
        ({"flags": 8}, "uses a feature of zip that no wheel needs"),
    ],
    ids=["longer", "crc", "stream", "method", "encrypted", "streamed"],
)
def test_a_damaged_member(
    world: World, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    entries = [
        replace(one, **change) if one.path == f"{PACKAGE}/runner.py" else one  # type: ignore[arg-type]
        for one in entry.read(pack(members(TAG)), "w")
    ]
    pin(world, {name(TAG): entry.write(entries)})
    assert message in refused(world, capsys)[1]


def test_trailing_data_in_a_stream(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        replace(one, stored=one.stored + b"hidden") if one.path == f"{PACKAGE}/runner.py" else one
        for one in entry.read(pack(members(TAG)), "w")
    ]
    pin(world, {name(TAG): entry.write(entries)})
    assert "its stream does not end where its data does" in refused(world, capsys)[1]


def test_a_directory_that_contradicts_the_members(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Two readers must not see two wheels: pip reads the directory, a streaming reader the local headers."""
    data = pack(members(TAG))
    other = data.replace(f"{PACKAGE}/comm.py".encode(), f"{PACKAGE}/evil.py".encode(), 1)
    assert other != data
    pin(world, {name(TAG): other})
    assert "is no archive of its members alone" in refused(world, capsys)[1]


def test_overlapping_members(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Members that share their data are the bombs with the highest ratio."""
    entries = entry.read(pack(members(TAG)), "w")
    data = bytearray(entry.write(entries))
    at = data.rindex(f"{PACKAGE}/comm.py".encode()) - 4  # the offset of its local header, in the directory
    target = data.index(f"{PACKAGE}/runner.py".encode()) - 30
    data[at : at + 4] = struct.pack("<I", target)
    pin(world, {name(TAG): bytes(data)})
    assert "is no archive of its members alone" in refused(world, capsys)[1]


def test_a_gap_between_members(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    entries = entry.read(pack(members(TAG)), "w")
    whole = entry.write(entries)
    start = struct.unpack("<I", whole[-6:-2])[0]
    data = whole[:start] + b"hidden" + whole[start:-6] + struct.pack("<I", start + 6) + whole[-2:]
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    pin(world, {name(TAG): data})
    assert "is no archive of its members alone" in refused(world, capsys)[1]


def test_an_archive_comment(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.BytesIO(pack(members(TAG)))
    with zipfile.ZipFile(out, "a") as opened:
        opened.comment = b"hidden"
    pin(world, {name(TAG): out.getvalue()})
    assert "is no archive of its members alone" in refused(world, capsys)[1]


def test_a_bomb_by_its_total(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    publish(world)
    monkeypatch.setattr(entry, "MAX_BYTES", 10_000)
    assert "is a zip bomb" in refused(world, capsys)[1]


def test_too_many_members(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    publish(world)
    monkeypatch.setattr(entry, "MAX_MEMBERS", 5)
    assert "members; the limit is 5" in refused(world, capsys)[1]


def test_the_limits_are_those_of_the_sdist() -> None:
    assert (entry.MAX_BYTES, entry.MAX_MEMBERS) == (archive.MAX_BYTES, archive.MAX_MEMBERS)


@pytest.fixture
def wheelhouse(world: World, tmp_path: Path) -> Path:
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    for file, data in publish(world).items():
        (folder / file).write_bytes(data)
    return folder


def test_a_given_wheel_of_another_digest(world: World, capsys: pytest.CaptureFixture[str], wheelhouse: Path) -> None:
    file = wheelhouse / name(TAG)
    file.write_bytes(edited(plus(Raw(f"{PACKAGE}/evil.py"))))
    for given in (file, wheelhouse):
        code, said = refused(world, capsys, "--upstream", str(given))
        assert code == 5
        assert "expected:" in said and "found:" in said and name(TAG) in said


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (name(TAG, "9.9rc2"), "found:    version 9.9rc2"),
        (name(TAG, PATCHED), f"found:    version {PATCHED}, a patched wheel already"),
        (name("cp312-cp312-linux_x86_64"), "found:    version 9.9rc1"),
    ],
    ids=["another version", "patched already", "a platform that is not pinned"],
)
@pytest.mark.parametrize("whole", [False, True], ids=["wheel", "wheelhouse"])
def test_a_given_wheel_that_is_not_pinned(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, message: str, whole: bool
) -> None:
    publish(world)
    given = tmp_path / "given" / file
    given.parent.mkdir()
    given.write_bytes(pack(members(TAG)))
    code, said = refused(world, capsys, "--upstream", str(given.parent if whole else given))
    assert code == 5
    assert message in said


def test_a_wheel_that_patchset_made_is_not_patched_again(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    made = tmp_path / "made"
    dist(world).parent.rename(made)
    code, said = refused(world, capsys, "--upstream", str(made / SET / name(TAG, PATCHED)))
    assert code == 5
    assert "a patched wheel already" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "has none of the set's wheels"),
        ("x.whl", "not named as a wheel"),
    ],
)
def test_no_wheel_is_given(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str, message: str
) -> None:
    publish(world)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.whl").write_bytes(b"")
    code, said = refused(world, capsys, "--upstream", str(tmp_path / given))
    assert code == 2
    assert message in said


def test_a_set_without_wheels(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(world, capsys)
    assert code == 2
    assert "pins no wheels" in said


def test_a_wheel_that_is_not_cached(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    file = name(TAG)
    pin(world, {file: pack(members(TAG))})
    for cached in Path(world.cached).parents[1].glob(f"*/{file}"):
        cached.unlink()
    code, said = refused(world, capsys)
    assert code == 6
    assert f"{file} is not in the cache" in said


@pytest.mark.parametrize("label", ["dp 1", "", "dp_1", "DP.1", "dp.01", "../x", "1.0+x"])
def test_a_label_that_is_none(world: World, capsys: pytest.CaptureFixture[str], label: str) -> None:
    publish(world)
    code, said = refused(world, capsys, "--local", label)
    assert code == 2
    assert "no local version label" in said


def test_a_stale_record_of_the_set(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    publish(world)
    world.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 43\n"})
    code, said = refused(world, capsys)
    assert code == 5
    assert f"patchset record {SET}" in said


def test_mode_bits_of_no_file_type_are_taken_for_a_file(world: World) -> None:
    """Some packers write permission bits alone."""
    data = edited(lambda raws: [replace(raw, mode=0o644) if raw.mode == FILE else raw for raw in raws])
    pin(world, {name(TAG): data})
    assert world.run("wheels", SET, "--offline") == 0
