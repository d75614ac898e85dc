# SPDX-License-Identifier: Apache-2.0
"""Upstream: the configured index, the cache and what each may get wrong; broken and hostile sdists."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SDIST, SET, World, make_sdist

from patchset.node.errors import PinMismatch, Unavailable, UsageError
from patchset.sets.setfile import PatchSet, load_set
from patchset.system.terminal import Terminal
from patchset.upstream import archive, cache, index


@pytest.fixture
def bare(empty: World) -> PatchSet:
    """The set, with nothing in the cache."""
    shutil.rmtree(empty.cached.parent)
    return load_set(SET)


def test_the_index_that_pip_is_configured_with(empty: World, bare: PatchSet, index: str) -> None:
    file = cache.fetch(bare.ascend.sdist, offline=False, terminal=Terminal())
    assert file == empty.cached and file.read_bytes() == empty.sdist
    shutil.rmtree(empty.served)
    assert cache.fetch(bare.ascend.sdist, offline=False) == file, "cached now"
    assert [path.name for path in file.parent.iterdir()] == [SDIST]


def test_a_file_index_an_extra_index_and_find_links(
    empty: World, bare: PatchSet, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", (empty.served / "simple").as_uri())
    assert cache.fetch(bare.ascend.sdist, offline=False).read_bytes() == empty.sdist
    shutil.rmtree(empty.cached.parent)
    monkeypatch.setenv("PIP_INDEX_URL", index.replace("simple", "other"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index)
    assert cache.fetch(bare.ascend.sdist, offline=False).read_bytes() == empty.sdist
    shutil.rmtree(empty.cached.parent)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty.served))
    assert cache.fetch(bare.ascend.sdist, offline=False).read_bytes() == empty.sdist


def test_the_pin_decides_not_the_index(empty: World, bare: PatchSet, index: str) -> None:
    make_sdist(empty.served / "simple" / "vllm-ascend" / SDIST, {"evil.py": "evil"})
    with pytest.raises(PinMismatch, match=f"(?s){SDIST}.*expected: {bare.ascend.sdist.sha256}"):
        cache.fetch(bare.ascend.sdist, offline=False)
    assert not list(Path(empty.cached.parents[1]).rglob("*.tar.gz")), "nothing of it is kept"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://user:secret@127.0.0.1:9/simple", r"http://127\.0\.0\.1:9/simple: cannot be reached"),
        ("INDEX/elsewhere", f"has no {SDIST}"),
        ("file:///nowhere", f"file:///nowhere: has no {SDIST}"),
    ],
)
def test_an_index_that_does_not_give_it(
    empty: World, bare: PatchSet, index: str, url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do instead is what each command takes: not each takes UPSTREAM."""
    monkeypatch.setenv("PIP_INDEX_URL", url.replace("INDEX", index))
    monkeypatch.setattr("urllib3.util.Retry.sleep", lambda *_: None)
    with pytest.raises(Unavailable, match=why) as caught:
        cache.fetch(bare.ascend.sdist, offline=False)
    assert "secret" not in str(caught.value)
    assert "pip config list" in caught.value.hint and str(empty.cached) in caught.value.hint
    assert "UPSTREAM" not in caught.value.hint


def test_a_listed_file_that_is_not_there(empty: World, bare: PatchSet, index: str) -> None:
    (empty.served / "simple" / "vllm-ascend" / SDIST).unlink()
    with pytest.raises(Unavailable, match="HTTP 404"):
        cache.fetch(bare.ascend.sdist, offline=False)
    assert not empty.cached.parent.exists()


def test_offline_uses_the_cache_alone(empty: World, bare: PatchSet, index: str) -> None:
    with pytest.raises(Unavailable, match="not in the cache, and offline was asked for") as caught:
        cache.fetch(bare.ascend.sdist, offline=True)
    assert caught.value.hint == f"run once without OFFLINE=1, or put the file there by hand: {empty.cached}"
    empty.fill_cache()
    assert cache.fetch(bare.ascend.sdist, offline=True) == empty.cached


def test_the_cache_is_verified_at_every_use(empty: World, bare: PatchSet, index: str) -> None:
    empty.fill_cache()
    empty.cached.write_bytes(b"rotten")
    with pytest.raises(PinMismatch, match="the cached"):
        cache.fetch(bare.ascend.sdist, offline=True)
    assert cache.fetch(bare.ascend.sdist, offline=False).read_bytes() == empty.sdist


def test_settings_of_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files, the section that only download reads, and the environment above both."""
    monkeypatch.delenv("PIP_INDEX_URL")
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.example/simple\nextra-index-url =\n    https://b.example/simple\n"
        "    https://c.example/simple\ncert = /ca.pem\n[download]\nindex-url = https://d.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    found = index.settings()
    assert found["index-url"] == ["https://d.example/simple"]
    assert found["extra-index-url"] == ["https://b.example/simple", "https://c.example/simple"]
    assert found["cert"] == ["/ca.pem"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://e.example/simple")
    assert index.settings()["index-url"] == ["https://e.example/simple"]


@pytest.mark.parametrize("linked", [False, True], ids=["the index", "what it links to"])
def test_nothing_is_asked_in_the_clear(
    empty: World, bare: PatchSet, index: str, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """Neither a page nor a file: whoever is on the way could withhold a release, though not replace it."""
    clear = "http://index.example.invalid/simple"
    if linked:
        page = empty.served / "simple" / "vllm-ascend" / "index.html"
        page.write_text(f'<a href="http://files.example.invalid/{SDIST}">{SDIST}</a>')
    else:
        monkeypatch.setenv("PIP_INDEX_URL", clear)
    with pytest.raises(Unavailable, match="not asked: it is not https, and not among pip's trusted hosts"):
        cache.fetch(bare.ascend.sdist, offline=False)
    if not linked:  # with pip's own setting it is asked, and here not found
        monkeypatch.setenv("PIP_TRUSTED_HOST", "index.example.invalid")
        with pytest.raises(Unavailable, match="cannot be reached"):
            cache.fetch(bare.ascend.sdist, offline=False)


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
