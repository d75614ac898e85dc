# SPDX-License-Identifier: Apache-2.0
"""Manifests: the format of sha256sum, its refusals, and what is measured; the fingerprint of a build."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchset.node import fingerprint, manifest
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


# The fingerprint


def test_it_is_what_sha256sum_makes_of_the_folder(tmp_path: Path) -> None:
    paths = "b.py B.py a/z.py a.py caf\u00e9.py _version.py _build_info.py a/_version.py c.so"
    for path in paths.split():
        file = tmp_path / "vllm_ascend" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    command = (
        "find vllm_ascend -name '*.py' ! -path vllm_ascend/_version.py ! -path vllm_ascend/_build_info.py"
        " | LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    shell = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert fingerprint.of_folder(tmp_path) == shell.split()[0]


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        ("_version.py", False),
        ("_build_info.py", False),
        ("__pycache__/plan.cpython-311.pyc", False),
        ("kernels.so", False),
        ("more.py", True),
        ("ops/_version.py", True),
    ],
)
def test_what_counts(tmp_path: Path, path: str, differs: bool) -> None:
    package = tmp_path / "vllm_ascend"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = fingerprint.of_folder(tmp_path)
    (package / path).parent.mkdir(exist_ok=True)
    (package / path).write_text("new")
    assert (fingerprint.of_folder(tmp_path) != before) is differs


def test_a_link_is_not_the_file_that_it_points_to(tmp_path: Path) -> None:
    package = tmp_path / "vllm_ascend"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = fingerprint.of_folder(tmp_path)
    (package / "__init__.py").rename(tmp_path / "elsewhere.py")
    (package / "__init__.py").symlink_to(tmp_path / "elsewhere.py")
    assert fingerprint.of_folder(tmp_path) != before


def overlays_own(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module with which a rank computes the same at run time; it needs neither torch nor vLLM."""
    file = Path(__file__).parents[2] / "overlay/shared/vllm_ascend/data_parallel/fingerprint.py"
    spec = importlib.util.spec_from_file_location("overlays_fingerprint", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_a_rank_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "vllm_ascend"
    paths = ("b.py", "a/z.py", "a.py", "café.py", "_version.py", "a/_version.py", "_build_info.py", "c.so", "a.pyc")
    for path in paths:
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(path)
    (package / "link.py").symlink_to(package / "a.py")
    own = overlays_own(monkeypatch)
    found = own.digests(package)
    assert own.build_digest(found) == fingerprint.of_folder(tmp_path)
    assert found.keys() == {
        f"vllm_ascend/{path}" for path in ("b.py", "a/z.py", "a.py", "café.py", "a/_version.py", "link.py")
    }
