# SPDX-License-Identifier: Apache-2.0
"""Manifests: the format of sha256sum, its refusals, and what is measured."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchset.node import manifest
from patchset.node.errors import UsageError

A, B = "a" * 64, "b" * 64
part = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"], exclude_characters='/\\"'), min_size=1)
safe_paths = st.lists(part, min_size=1, max_size=3).map("/".join).filter(lambda path: not manifest.unsafe_reason(path))


@given(st.dictionaries(safe_paths, st.sampled_from([A, B])))
def test_what_is_rendered_is_parsed(rows: dict[str, str]) -> None:
    rows = {path: sha for path, sha in rows.items() if path == path.strip()}
    assert manifest.parse(manifest.render(rows), "m") == rows


def test_sha256sum_reads_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.py").write_text("x")
    (tmp_path / "a").write_text("")
    paths = manifest.walk(tmp_path)
    assert paths == ["a", "b/x.py"]
    text = manifest.render(manifest.measure(tmp_path, paths))
    subprocess.run(["sha256sum", "--check", "--strict", "-"], input=text.encode(), cwd=tmp_path, check=True)
    assert manifest.digest(manifest.measure(tmp_path, paths)) == manifest.sha256(text.encode())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{A} x\n", "not a sha256sum line"),
        (f"{A[:-1]}  x\n", "not a sha256sum line"),
        (f"{A}  ../x\n", "leaves the tree"),
        (f"{A}  /x\n", "is not a relative path"),
        (f"{A}  C:/x\n", "is not a relative path"),
        (f"{A}  a/./x\n", "plain form"),
        (f"{A}  a/.GIT/x\n", r"\.git folder"),
        (f"{A}  a\x01x\n", "a character"),
        (f"{A}  b\n{B}  a\n", "m:2: 'a' is listed twice or out of order"),
        (f"{A}  a\n{B}  a\n", "m:2: 'a' is listed twice or out of order"),
    ],
)
def test_a_bad_line_is_named(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        manifest.parse(text, "m")


def test_links_and_folders_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "inward").symlink_to("folder")
    found = manifest.measure(tmp_path, ["file", "folder", "link", "nothing"])
    assert found == {"file": manifest.sha256(b"x"), "folder": manifest.NO_FILE, "link": manifest.NO_FILE}
    assert manifest.walk(tmp_path) == ["file", "inward", "link"]


def test_what_cannot_be_read_as_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = manifest.measure(tmp_path, ["pipe", "loop", "loop/x", "socket", "pipe/x"])
    assert found == dict.fromkeys(["pipe", "loop", "loop/x", "socket"], manifest.NO_FILE)


def test_a_folder_not_to_be_entered_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("a/.git/x", "a/b/x", "a/b/.git", "c"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    monkeypatch.chdir(tmp_path)
    assert manifest.walk(tmp_path) == manifest.walk(Path()) == ["a/b/.git", "a/b/x", "c"]
    assert manifest.walk(tmp_path / "none") == []
