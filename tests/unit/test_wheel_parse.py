# SPDX-License-Identifier: Apache-2.0
"""A published wheel is audited before anything is made of it: its names, its version, its RECORD."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import PACKAGE, VERSION, sha256
from wheel_world import INFO, PATCHED, TAGS, Raw, edited, members, name, pack, plus, replaced, without

from patchset.node.errors import PinMismatch, UsageError
from patchset.node.verify import entry
from patchset.wheels import wheel

TAG = TAGS[0]
METADATA = f"Metadata-Version: 2.1\nName: tiny-ascend\nVersion: {VERSION}\n\n"
RECORD = next(raw.data for raw in members(TAG) if raw.path == f"{INFO}/RECORD")


def parse(data: bytes) -> wheel.Wheel:
    return wheel.parse(name(TAG), data, package=PACKAGE, version=VERSION)


def test_a_good_wheel() -> None:
    data = pack(members(TAG))
    read = parse(data)
    assert (read.file, read.package, read.dist_info) == (name(TAG), PACKAGE, INFO)
    assert read.entries == entry.read(data, "w")
    assert list(read.files) == [raw.path for raw in members(TAG) if not raw.path.endswith("/")]
    fields = [read.field(name) for name in ("Name", "Version", "Requires-Python")]
    assert fields == ["tiny-ascend", VERSION, ">=3.9"]


def test_a_package_may_hold_what_looks_like_an_installed_one() -> None:
    """Only the top folder counts: packages vendor others."""
    assert parse(edited(plus(Raw(f"{PACKAGE}/x-1.dist-info/METADATA")))).dist_info == INFO


def with_record(data: bytes) -> bytes:
    return edited(replaced(f"{INFO}/RECORD", data), true_record=False)


def with_metadata(text: str) -> bytes:
    return edited(replaced(f"{INFO}/METADATA", text.encode()))


def renamed(path: str, other: str) -> Callable[[list[Raw]], list[Raw]]:
    return lambda raws: [Raw(raw.path.replace(path, other), raw.data, raw.mode) for raw in raws]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            pack([raw for raw in members(TAG) if not raw.path.startswith(INFO)]),
            "has no .dist-info folder; a wheel has one",
        ),
        (b"hello", " is not a readable zip archive: "),
        (edited(plus(Raw("x-1.dist-info/METADATA"))), "has 2 .dist-info folders; a wheel has one"),
        (edited(without(f"{INFO}/METADATA")), f"has no {INFO}/METADATA"),
        (edited(without(f"{INFO}/WHEEL")), f"has no {INFO}/WHEEL"),
        (edited(without(f"{INFO}/RECORD"), true_record=False), f"has no {INFO}/RECORD"),
        (edited(plus(Raw("evil.py"))), f": member 'evil.py' lies outside {PACKAGE}/ and {INFO}/"),
        (edited(plus(Raw(f"{PACKAGE}.pth"))), f": member '{PACKAGE}.pth' lies outside"),
        (edited(plus(Raw(f"{PACKAGE}-{VERSION}.data/scripts/evil"))), "lies outside"),
        (edited(plus(Raw(f"other/{PACKAGE}/evil.py"))), "lies outside"),
        (with_record(b"\xff"), f": {INFO}/RECORD: RECORD is not CSV in UTF-8"),
        (with_record(b'"a'), f": {INFO}/RECORD: RECORD is not CSV in UTF-8"),
        (with_record(b'"a"b,,\n'), f": {INFO}/RECORD: RECORD is not CSV in UTF-8"),
        (with_record(RECORD + b"a,b,c,d\n"), " has 4 fields, not 3"),
        (with_record(RECORD + b"a,b\n"), " has 2 fields, not 3"),
        (with_record(RECORD + b"\n"), " has 0 fields, not 3"),
        (with_record(RECORD + f"{INFO}/RECORD,,\n".encode()), f"{INFO}/RECORD is listed twice"),
    ],
)
def test_a_malformed_wheel(data: bytes, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(data)
    assert why in caught.value.message and caught.value.message.startswith(name(TAG))
    assert caught.value.hint == "get the wheel from a source that you trust"


EMPTY = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
COMM = f"{PACKAGE}/comm.py"
ROW = next(row.split(",", 1)[1] for row in RECORD.decode().splitlines() if row.startswith(f"{COMM},"))
DIGEST, SIZE = ROW.split(",")
SHA = f"sha256 {sha256(next(raw.data for raw in members(TAG) if raw.path == COMM))}"
TRUE, EMPTY_FILE = f"{SHA}, {SIZE} bytes", f"sha256 {sha256(b'')}, 0 bytes"


def with_row(row: str) -> bytes:
    return with_record(RECORD.replace(ROW.encode(), row.encode()))


@pytest.mark.parametrize(
    ("data", "path", "expected", "found"),
    [
        (edited(replaced(COMM, b""), true_record=False), "comm.py", TRUE, EMPTY_FILE),
        (edited(without(COMM), true_record=False), "comm.py", TRUE, "not in the wheel"),
        (edited(plus(Raw(f"{PACKAGE}/x.py")), true_record=False), "x.py", "not in RECORD", EMPTY_FILE),
        (with_row(f"{DIGEST},"), "comm.py", f"{SHA}, no bytes", TRUE),
        (with_row(f",{SIZE}"), "comm.py", f"no digest, {SIZE} bytes", TRUE),
        (with_record(RECORD + f"{PACKAGE}/a.py,,\n".encode()), "a.py", "no digest, no bytes", "not in the wheel"),
    ],
    ids=["changed", "lost", "more", "no size", "no digest", "listed"],
)
def test_a_wheel_that_its_record_does_not_describe(data: bytes, path: str, expected: str, found: str) -> None:
    with pytest.raises(PinMismatch) as caught:
        parse(data)
    error = caught.value
    assert (error.what, error.expected, error.found) == (f"{name(TAG)}: {PACKAGE}/{path}", expected, found)
    assert "RECORD and the file disagree" in error.hint


def test_record_lists_itself_with_neither_digest_nor_size() -> None:
    with pytest.raises(PinMismatch) as caught:
        parse(with_record(RECORD.replace(f"{INFO}/RECORD,,".encode(), f"{INFO}/RECORD,{EMPTY},0".encode())))
    assert (caught.value.what, caught.value.found) == (f"{name(TAG)}: {INFO}/RECORD", "no digest, no bytes")


@pytest.mark.parametrize(
    ("data", "expected", "found"),
    [
        (with_metadata(METADATA.replace("9.9rc1", PATCHED)), VERSION, f"{VERSION} and {PATCHED}"),
        (with_metadata(METADATA.replace("Version: 9.9rc1\n", "")), VERSION, f" and {VERSION}"),
        (pack(renamed(INFO, f"{PACKAGE}-9.8.dist-info")(members(TAG))), VERSION, f"9.8 and {VERSION}"),
        (with_metadata(METADATA.replace("tiny-", "other-")), "a wheel of tiny-ascend", "'other-ascend' in METADATA"),
        (with_metadata(METADATA.replace("Name: tiny-ascend\n", "")), "a wheel of tiny-ascend", "'' in METADATA"),
    ],
    ids=["patched already", "no version", "another folder", "another project", "no name"],
)
def test_a_wheel_of_something_else(data: bytes, expected: str, found: str) -> None:
    with pytest.raises(PinMismatch) as caught:
        parse(data)
    assert (caught.value.what, caught.value.found) == (name(TAG), found)
    assert expected in caught.value.expected
    assert caught.value.hint == "get the wheel from a source that you trust"


@pytest.mark.parametrize("project", ["tiny_ascend", "Tiny.Ascend", "tiny--ascend"])
def test_a_project_may_be_spelt_in_any_form(project: str) -> None:
    assert parse(with_metadata(METADATA.replace("tiny-ascend", project))).field("Name") == project


def test_record_rows_are_written_as_csv() -> None:
    entries = [entry.new("a,b.py", b""), entry.new('c".py', b"x"), entry.new("i/RECORD", b"")]
    digest = "sha256=LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE"
    record = wheel.render_record(entries, "i/RECORD")
    assert record.decode() == f'"a,b.py",{EMPTY},0\n"c"".py",{digest},1\ni/RECORD,,\n'
