# SPDX-License-Identifier: Apache-2.0
"""Hostile and broken sdists: refused with the member's name, and nothing outside the folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from patchset.node.errors import UsageError
from patchset.upstream import archive


def tar_of(file: Path, *members: tuple[str, dict[str, object]]) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            data = attributes.pop("data", b"")
            assert isinstance(data, bytes)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return file


def test_files_and_modes(tmp_path: Path) -> None:
    file = tar_of(
        tmp_path / "x.tar.gz",
        ("x-1", {"type": tarfile.DIRTYPE}),
        ("x-1/a.py", {"data": b"a", "mode": 0o666}),
        ("x-1/d/run.sh", {"data": b"#!", "mode": 0o4775}),
    )
    before = os.umask(0o077)
    try:
        archive.unpack(file, tmp_path / "out")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o7777 for file in (tmp_path / "out").rglob("*.*")}
    assert modes == {"a.py": 0o644, "run.sh": 0o755}


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (("../evil", {}), "leaves the tree"),
        (("x-1/../../evil", {}), "leaves the tree"),
        (("/evil", {}), "is not a relative path"),
        (("x-1/.git/hooks/post-checkout", {}), r"\.git folder"),
        (("other/evil", {}), "outside the top folder"),
        (("x-1/link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}), "is a link or a device"),
        (("x-1/link", {"type": tarfile.LNKTYPE, "linkname": "x-1/a.py"}), "is a link or a device"),
        (("x-1/pipe", {"type": tarfile.FIFOTYPE}), "is a link or a device"),
        (("x-1/null", {"type": tarfile.CHRTYPE}), "is a link or a device"),
        (("x-1/a.py", {}), "is there twice"),
        (("x-1/A.PY", {}), "differs from another only in case"),
        (("x-1/a.py/b", {}), "a folder of a file"),
        (("x-1/d", {}), "a file of a folder"),
        (("x-1/cafe\u0301.py", {}), "is there twice, or differs from another"),
        (("x-1/\udcff", {}), "a character"),
        (("x-1/new\nline", {}), "a character"),
        (("x-1/back\\slash", {}), "a character"),
    ],
)
def test_a_hostile_member_is_refused(member: tuple[str, dict[str, object]], why: str, tmp_path: Path) -> None:
    honest = [(f"x-1/{name}", {}) for name in ("a.py", "d/e.py", "caf\u00e9.py")]
    file = tar_of(tmp_path / "x.tar.gz", *honest, (member[0], dict(member[1])))
    with pytest.raises(UsageError, match=why):
        archive.unpack(file, tmp_path / "in" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.tar.gz"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tar_of(tmp_path / "x.tar.gz", *((f"x-1/{n}", {"data": b"0" * 100_000}) for n in range(5)))
    monkeypatch.setattr(archive, "MAX_BYTES", 250_000)
    with pytest.raises(UsageError, match="makes more than 250000 bytes"):
        archive.unpack(file, tmp_path / "bytes")
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    with pytest.raises(UsageError, match="is one of more than 2"):
        archive.unpack(file, tmp_path / "members")


def test_a_bomb_in_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of any length are members of their own, which tarfile reads whole before it gives the file."""
    monkeypatch.setattr(archive, "MAX_BYTES", 50_000)
    file = tar_of(tmp_path / "x.tar.gz", ("x-1/" + "a/" * 100_000 + "b", {"data": b"b"}))
    assert file.stat().st_size < 5000
    with pytest.raises(UsageError, match="unpacks to more than 100000 bytes"):
        archive.unpack(file, tmp_path / "name")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"not an archive",
        lambda data: data[: len(data) // 2],
        lambda data: gzip.compress(b"x" * 99),
        lambda data: data[:1000] + bytes(byte ^ 0xFF for byte in data[1000:2000]) + data[2000:],
        gzip.decompress,
    ],
    ids=["empty", "text", "cut off", "no tar", "damaged", "not compressed"],
)
def test_what_is_no_archive_is_refused(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tar_of(tmp_path / "x.tar.gz", ("x-1/a.py", {"data": os.urandom(5000)}))
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(UsageError, match="is not a readable sdist"):
        archive.unpack(file, tmp_path / "out")
