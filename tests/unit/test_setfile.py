# SPDX-License-Identifier: Apache-2.0
"""set.toml: read whole, and each mistake named with its file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import COMMIT, SDIST, SET, VERSION, World

from patchset.node.errors import PinMismatch, UsageError
from patchset.sets import setfile
from patchset.sets.setfile import Artifact, Touched
from patchset.system import paths

GOOD = "a" * 64


def test_a_set_is_read(world: World) -> None:
    found = setfile.load_set(SET)
    assert (found.name, found.ascend.version, found.ascend.commit) == (SET, VERSION, COMMIT)
    assert found.ascend.sdist == Artifact("vllm-ascend", SDIST, found.ascend.sdist.sha256)
    assert found.vllm.sdist.file == "vllm-9.9.9.tar.gz"
    assert str(found.ascend.released) == "2026-01-02"
    assert (found.torch, found.cann, found.python) == ("2.7.1", "8.2", ">=3.9,<3.12")
    assert found.touched["tiny_ascend/new.py"].upstream is None
    assert found.touched["tiny_ascend/old.py"].patched is None
    assert "PKG-INFO" not in found.sources() and "PKG-INFO" in found.upstream_manifest()
    assert paths.sets() == [SET]


def test_an_unknown_set(world: World) -> None:
    with pytest.raises(UsageError, match="no patch set 'v1'") as caught:
        setfile.load_set("v1")
    assert caught.value.hint.startswith(f"name one of: {SET} (")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("format = 1\n", "", "format is missing"),
        ("format = 1", "format = 2", "format is 2; this tool reads 1"),
        ("format = 1", "format = true", "format must be a int, not bool"),
        ("format = 1", "format = ", "Invalid value"),
        ("format = 1", f"format = 1{'0' * 5000}", "4300 digits"),
        ("format = 1", f"format = 1\nextra = {'[' * 3000}{']' * 3000}", "recursion"),
        ("format = 1", "format = 1\nformat = 1", "Cannot overwrite a value"),
        ("released = 2026-01-02", "released = 2026-01-02T00:00:00", "ascend.released must be a date, not datetime"),
        ('package = "tiny_ascend"', 'package = "../x"', "ascend.package is malformed"),
        ('package = "tiny_ascend"', 'package = "tiny\\nascend"', "ascend.package is malformed"),
        ('package = "tiny_ascend"', 'package = "caf\u00e9"', "ascend.package is malformed"),
        ("[result.files]", f'[result.files]\n"a\\nb" = {{upstream = "{GOOD}"}}', "a character that no upstream file"),
        ("format = 1", "format = 1\nextra = 1", "extra is not a known key"),
        ('version = "9.9.9"', "version = 9", "vllm.version must be a str, not int"),
        ("[vllm.sdist]", "[vllm.sdst]", "vllm.sdist is missing"),
        (f'file = "{SDIST}"', 'file = "../x.tar.gz"', "ascend.sdist.file is malformed: '../x.tar.gz'"),
        (f'commit = "{COMMIT}"', 'commit = "0123"', "ascend.commit is malformed"),
        ("released = 2026-01-02", 'released = "soon"', "ascend.released must be a date, not str"),
        ('generated = ["PKG-INFO"', "generated = [1", "ascend.generated has 1"),
        ('generated = ["PKG-INFO"', 'generated = ["../x"', "ascend.generated has '../x'"),
        ('cann = "8.2"', "", "runtime.cann is missing"),
        ('manifest = "', 'manifest = "x', "upstream.manifest is malformed"),
        ('package = "tiny_ascend"', 'package = "tiny_ascend"\nwheels = [1]', r"ascend.wheels\[1\].? must be a table"),
        (
            'package = "tiny_ascend"',
            'package = "tiny_ascend"\nwheels = [{file = "a"}]',
            r"wheels\[1\].sha256 is missing",
        ),
        ("[runtime]", f'[runtime]\nx = "{GOOD}"', "runtime.x is not a known key"),
        ("[result.files]", '[result.files]\n"/x" = {upstream = "a"}', "is not a relative path"),
        (
            "[result.files]",
            f'[result.files]\n"x" = {{upstream = "{GOOD}", patched = "{GOOD}"}}',
            "must differ from upstream",
        ),
        ("[result.files]", '[result.files]\n"x" = {}', "must differ from upstream"),
        ("[result.files]", '[result.files]\n"x" = {upstream = "zz"}', "result.files.x.upstream is malformed"),
        ("[result.files]", "[result.files]\nx = 1", "must be a dict|must be a table"),
    ],
)
def test_a_mistake_is_named(empty: World, old: str, new: str, why: str) -> None:
    text = (empty.folder / "set.toml").read_text()
    assert old in text
    (empty.folder / "set.toml").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=why) as caught:
        setfile.load_set(SET)
    assert str(empty.folder / "set.toml") in str(caught.value)


def test_a_file_that_is_not_utf8(empty: World) -> None:
    (empty.folder / "set.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"set\.toml"):
        setfile.load_set(SET)


@pytest.mark.parametrize("name", ["9.9.9", "v", "vx", "v1/2"])
def test_a_folder_that_is_no_set_name(empty: World, name: str) -> None:
    with pytest.raises(UsageError, match="a set is named v<vLLM version>"):
        setfile.parse("format = 1", Path(f"/patches/{name.replace('/', '_')}"))


def test_the_manifest_is_pinned(world: World) -> None:
    found = setfile.load_set(SET)
    file = world.folder / "upstream.sha256"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(PinMismatch, match=r"upstream\.sha256"):
        found.upstream_manifest()
    file.unlink()
    with pytest.raises(UsageError, match=r"upstream\.sha256: No such file"):
        found.upstream_manifest()


def test_touched_rows_are_values() -> None:
    assert Touched("a", None) == Touched("a", None) != Touched(None, "a")


def test_the_repository_is_found_or_named(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert paths.repo_root() == world.root
    monkeypatch.setenv("PATCHSET_ROOT", str(tmp_path))
    with pytest.raises(UsageError, match="no patches/ folder"):
        paths.repo_root()
    monkeypatch.delenv("PATCHSET_ROOT")
    assert (paths.repo_root() / "scripts" / "patchset").is_dir()
    monkeypatch.delenv("PATCHSET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert paths.cache_dir() == tmp_path / "xdg" / "patchset"
