# SPDX-License-Identifier: Apache-2.0
"""Manifests: the format of sha256sum, its refusals, and what is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchset import manifest
from patchset.errors import UsageError

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
