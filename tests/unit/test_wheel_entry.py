# SPDX-License-Identifier: Apache-2.0
"""Entries, against `zipfile` as the judge."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheel_world import Raw, pack

from patchset.node.errors import UsageError
from patchset.node.verify import entry
from patchset.node.verify.entry import Entry
from patchset.upstream import archive

NAMES = st.text("abcxyz-_é漢", min_size=1, max_size=8)
DATES = st.tuples(
    st.integers(1980, 2107), st.integers(1, 12), st.integers(1, 28), st.integers(0, 23), st.integers(0, 59),
    st.integers(0, 29).map(lambda half: 2 * half),
)  # fmt: skip
DATE = (2026, 1, 2, 3, 4, 6)
MODES = st.sampled_from((0o644, 0o755, 0o664, 0o600))


@st.composite
def archives(draw: st.DrawFn) -> dict[str, tuple[bytes, int, tuple[int, int, int, int, int, int], int]]:
    """Files by path: data, permissions, timestamp, method."""
    files = draw(st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), unique_by=str.casefold, max_size=6))
    methods = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    above = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
    return {
        path: (draw(st.binary(max_size=300)), draw(MODES), draw(DATES), draw(methods))
        for path in files
        if path not in above
    }


@given(archives())
def test_reading_and_writing_give_the_same_bytes(files: dict[str, tuple]) -> None:  # type: ignore[type-arg]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, (data, mode, date, method) in files.items():
            info = zipfile.ZipInfo(path, date)
            info.external_attr, info.compress_type = (stat.S_IFREG | mode) << 16, method
            archive.writestr(info, data)
    entries = entry.read(out.getvalue(), "w")
    assert entry.write(entries) == out.getvalue()
    assert {one.path: (one.data, one.mode & 0o777, one.date, one.method) for one in entries} == files


@given(st.data())
def test_no_change_of_a_byte_goes_unnoticed(data: st.DataObject) -> None:
    """Either it is refused, or the entries differ: two archives are never taken for the same."""
    good = entry.write([entry.new("a.py", b"a = 1\n"), entry.new("b/c.py", b"c = 1\n")])
    at = data.draw(st.integers(0, len(good) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != good[at]))
    bad = good[:at] + bytes([value]) + good[at + 1 :]
    try:
        entries = entry.read(bad, "w")
    except UsageError:
        return
    assert entries != entry.read(good, "w")
    assert entry.write(entries) == bad


def test_an_entry_keeps_its_mode_when_its_content_changes() -> None:
    script = replace(entry.new("run.sh", b"exit 0\n", (stat.S_IFREG | 0o755) << 16), date=DATE, internal=1)
    changed: Entry = script.holding(b"exit 1\n")
    assert (changed.path, changed.mode, changed.data) == ("run.sh", script.mode, b"exit 1\n")
    assert (changed.date, changed.internal, changed.method) == (entry.EPOCH, 0, zipfile.ZIP_STORED)


def test_a_new_entry_is_a_plain_file_of_a_fixed_date() -> None:
    for path, flags in (("a.py", 0), ("\u00e9.py", 0x800)):
        data = entry.write([entry.new(path, b"a = 1\n")])
        (info,) = zipfile.ZipFile(io.BytesIO(data)).infolist()
        assert (info.filename, info.date_time, info.compress_type) == (path, (1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)
        assert (info.external_attr, info.internal_attr, info.flag_bits) == ((stat.S_IFREG | 0o644) << 16, 0, flags)
        assert (info.create_system, info.create_version, info.extract_version) == (3, 20, 20)
        assert (info.extra, info.comment, info.volume, info.reserved) == (b"", b"", 0, 0)


def test_members_are_given_in_the_order_of_the_archive() -> None:
    """The directory may have them in another one, but only an archive that `write` makes is taken."""
    entries = [entry.new("b.py", b"b\n"), entry.new("a.py", b"a\n")]
    data = entry.write(entries)
    assert [one.path for one in entry.read(data, "w")] == ["b.py", "a.py"]
    start = struct.unpack("<I", data[-6:-2])[0]
    size = (len(data) - 22 - start) // 2
    swapped = data[:start] + data[start + size : start + 2 * size] + data[start : start + size] + data[-22:]
    assert zipfile.ZipFile(io.BytesIO(swapped)).namelist() == ["a.py", "b.py"]
    assert refusal(swapped).startswith("w.whl is no archive of its members alone")


def refusal(data: bytes) -> str:
    """What is said of an archive that must be refused."""
    with pytest.raises(UsageError) as caught:
        entry.read(data, "w.whl")
    assert caught.value.hint == "get the wheel from a source that you trust"
    return caught.value.message


GOOD = entry.new("a.py", b"a = 1\n" * 20)
PACKED = next(iter(entry.read(pack([Raw("p.py", b"packed = 1\n" * 20)]), "w")))
FOLDER = entry.new("d/", b"", 0o40755 << 16)


def named(path: str, attributes: int = (stat.S_IFREG | 0o644) << 16, data: bytes = b"") -> Entry:
    return entry.new(path, data, attributes)


@pytest.mark.parametrize(
    ("entries", "path", "why"),
    [
        ([named("../evil.py")], "../evil.py", "leaves the tree"),
        ([named("a/../../evil.py")], "a/../../evil.py", "leaves the tree"),
        ([named("/etc/passwd")], "/etc/passwd", "is not a relative path"),
        ([named("C:/evil.py")], "C:/evil.py", "is not a relative path"),
        ([named("a\\evil.py")], "a\\evil.py", "has a character that no upstream file name has"),
        ([named("d//", 0)], "d//", "is not in its plain form"),
        ([named("a.py\0.txt")], "a.py", "has a NUL in its name"),
        ([named("l", (stat.S_IFLNK | 0o777) << 16)], "l", "is a link or a device"),
        ([named("d", (stat.S_IFCHR | 0o644) << 16)], "d", "is a link or a device"),
        ([named("f", (stat.S_IFIFO | 0o644) << 16)], "f", "is a link or a device"),
        ([named("f", (stat.S_IFDIR | 0o755) << 16)], "f", "is a link or a device"),
        ([named("d/", (stat.S_IFREG | 0o644) << 16)], "d/", "is a link or a device"),
        ([replace(GOOD, flags=1)], "a.py", "uses a feature of zip that no wheel needs"),
        ([replace(GOOD, flags=8)], "a.py", "uses a feature of zip that no wheel needs"),
        ([replace(named("e.py"), path="\u00e9.py")], "\u251c\u2310.py", "uses a feature of zip that no wheel needs"),
        ([replace(GOOD, method=14)], "a.py", "is packed with method 14"),
        ([named("d/", data=b"x", attributes=0)], "d/", "is a folder with content"),
        ([GOOD, named("b.py"), GOOD], "a.py", "is there twice, or differs from another only in case"),
        ([GOOD, named("A.py")], "A.py", "is there twice, or differs from another only in case"),
        ([named("stra\u00dfe"), named("STRASSE")], "STRASSE", "is there twice, or differs from another only in case"),
        ([named("\u00e9"), named("e\u0301")], "e\u0301", "is there twice, or differs from another only in case"),
        ([FOLDER, named("d")], "d", "is there twice, or differs from another only in case"),
        ([named("a/b/c.py"), named("A")], "A", "is a file and a folder"),
        ([named("a/B"), named("a/b/c/d.py")], "a/B", "is a file and a folder"),
        ([named("\u00e9/x"), named("e\u0301")], "e\u0301", "is a file and a folder"),
        ([named("a/b/", 0), named("a")], "a", "is a file and a folder"),
        ([replace(GOOD, size=119)], "a.py", "declares 119 bytes and has more"),
        ([replace(GOOD, size=121)], "a.py", "declares 121 bytes and has fewer"),
        ([replace(PACKED, size=219)], "p.py", "declares 219 bytes and has more"),
        ([replace(PACKED, size=221)], "p.py", "declares 221 bytes and has fewer"),
        ([replace(PACKED, crc=1)], "p.py", "is damaged (its CRC-32 is another)"),
        ([replace(PACKED, stored=b"\xff" * 40)], "p.py", "is damaged (Error -3 while decompressing data"),
        ([replace(PACKED, stored=PACKED.stored[:-1])], "p.py", "is damaged (its stream does not end where"),
        ([replace(PACKED, stored=PACKED.stored + b"hidden")], "p.py", "is damaged (its stream does not end where"),
    ],
)
def test_a_member_that_no_wheel_needs(entries: list[Entry], path: str, why: str) -> None:
    assert refusal(entry.write(entries)).startswith(f"w.whl: member {path!r} {why}")


def test_what_wheels_do_have_is_read() -> None:
    entries = (
        FOLDER,
        named("e/", 0),
        named("a/b/", 0),
        named("a/b/c.py"),
        named("a/bX"),
        replace(named("a/b/d.py"), attributes=0o644 << 16),
        replace(named("a/b/bare.py"), attributes=0),
        replace(PACKED, flags=6, internal=1),
        named("caf\u00e9.py"),
        replace(named("ab.py"), flags=0x800),
        replace(named("dated.py"), date=(2107, 12, 31, 23, 59, 58)),
        replace(named("dos.py"), version_made=20, version_needed=10),
    )
    assert entry.read(entry.write(entries), "w") == entries


def test_a_link_is_told_before_it_is_looked_at() -> None:
    """What the directory says is enough to refuse: nothing is unpacked."""
    link = replace(PACKED, attributes=(stat.S_IFLNK | 0o777) << 16, stored=b"\xff" * 40)
    assert "is a link or a device" in refusal(entry.write([link]))


@pytest.mark.parametrize("field", ["extra", "comment"])
def test_what_hides_beside_a_member(field: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        info = zipfile.ZipInfo("a.py")
        setattr(info, field, b"\xfe\xca\0\0")
        opened.writestr(info, b"a = 1\n")
    assert refusal(out.getvalue()) == "w.whl: member 'a.py' uses a feature of zip that no wheel needs"


def bomb(size: int, stored: int) -> bytes:
    """A member that declares so many bytes and has so many: what a bomb looks like before it is unpacked."""
    return entry.write([Entry("b.py", zipfile.ZIP_DEFLATED, entry.EPOCH, 0, 0, size, bytes(stored))])


def test_a_bomb_by_its_ratio() -> None:
    limit = f"({archive.MAX_BYTES} bytes in all, 200 to 1)"
    assert refusal(bomb(2001, 10)) == f"w.whl: member 'b.py' is a zip bomb: 2001 bytes from 10 {limit}"
    assert "zip bomb" not in refusal(bomb(2000, 10))
    assert refusal(bomb(201, 0)) == f"w.whl: member 'b.py' is a zip bomb: 201 bytes from 0 {limit}"
    assert "zip bomb" not in refusal(bomb(200, 0))


def test_what_a_member_hides_is_never_unpacked() -> None:
    """Were it, this one would take 64 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    stored = packer.compress(bytes(1 << 26)) + packer.flush()
    data = entry.write([Entry("b.py", zipfile.ZIP_DEFLATED, entry.EPOCH, 0, 0, 4096, stored)])
    tracemalloc.start()
    try:
        assert refusal(data) == "w.whl: member 'b.py' declares 4096 bytes and has more"
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_bomb_by_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry.new(f"{n}.py", bytes(100)) for n in range(3)]
    monkeypatch.setattr(entry, "MAX_BYTES", 300)
    assert len(entry.read(entry.write(entries), "w")) == 3
    monkeypatch.setattr(entry, "MAX_BYTES", 299)
    assert refusal(entry.write(entries)).startswith("w.whl: member '2.py' is a zip bomb: 100 bytes from 100")


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    data = entry.write([entry.new(f"{n}.py", b"") for n in range(3)])
    monkeypatch.setattr(entry, "MAX_MEMBERS", 3)
    assert len(entry.read(data, "w")) == 3
    monkeypatch.setattr(entry, "MAX_MEMBERS", 2)
    assert refusal(data) == "w.whl has 3 members; the limit is 2"


WHOLE = entry.write([GOOD, named("b.py", data=b"b = 1\n")])


NO_NAME = entry.write([named("\u00e9.py")]).replace("\u00e9".encode(), b"\xff\xff")


@pytest.mark.parametrize(
    "data",
    [b"hello", b"", WHOLE[:-1], WHOLE[:40], NO_NAME],
    ids=["no archive", "empty", "cut short", "cut off", "a name in no encoding"],
)
def test_what_is_no_archive(data: bytes) -> None:
    assert refusal(data).startswith("w.whl is not a readable zip archive: ")


def commented(data: bytes) -> bytes:
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as opened:
        opened.comment = b"hidden"
    return out.getvalue()


def with_gap(data: bytes) -> bytes:
    start = struct.unpack("<I", data[-6:-2])[0]
    return data[:start] + b"hidden" + data[start:-6] + struct.pack("<I", start + 6) + data[-2:]


def overlapping(data: bytes) -> bytes:
    """Members that share their data are the bombs with the highest ratio."""
    at = data.rindex(b"b.py") - 4  # the offset of its local header, in the directory
    return data[:at] + struct.pack("<I", 0) + data[at + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        b"#!/bin/sh\n" + WHOLE,
        WHOLE + b"more",
        commented(WHOLE),
        with_gap(WHOLE),
        overlapping(WHOLE),
        # pip reads the directory, a streaming reader the local headers: they must not see two wheels.
        WHOLE.replace(b"b.py", b"c.py", 1),
    ],
    ids=["bytes before", "bytes after", "a comment", "a gap", "overlapping", "two names"],
)
def test_an_archive_of_more_than_its_members(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.namelist() == ["a.py", "b.py"]
    assert refusal(data).startswith("w.whl is no archive of its members alone")
