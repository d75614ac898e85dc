# SPDX-License-Identifier: Apache-2.0
"""set.toml: read whole, each mistake named with its file and key; and a set by each of its names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import COMMIT, SDIST, SET, VERSION, World

from patchset.node.errors import PinMismatch, UsageError
from patchset.sets import setfile
from patchset.sets.setfile import Artifact
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


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("format = 1\n", "", "format is missing"),
        ("format = 1", "format = 2", "format is 2; this tool reads 1"),
        ("format = 1", "format = true", "format must be int, not bool"),
        ("format = 1", "format = ", "Invalid value"),
        ("format = 1", f"format = 1{'0' * 5000}", "4300 digits"),
        ("format = 1", f"format = 1\nextra = {'[' * 3000}{']' * 3000}", "recursion"),
        (
            "released = 2026-01-02",
            "released = 2026-01-02T00:00:00",
            "ascend.released must be date",
        ),
        ('package = "tiny_ascend"', 'package = "../x"', "ascend.package is malformed"),
        ("[result.files]", f'[result.files]\n"a\\nb" = {{upstream = "{GOOD}"}}', "a character that no upstream file"),
        ("format = 1", "format = 1\nextra = 1", "extra is not a known key"),
        ("[vllm.sdist]", "[vllm.sdst]", "vllm.sdst is not a known key"),
        (f'file = "{SDIST}"', 'file = "../x.tar.gz"', "ascend.sdist.file is malformed"),
        (f'commit = "{COMMIT}"', 'commit = "0123"', "ascend.commit is malformed"),
        ('generated = ["PKG-INFO"', "generated = [1", r"ascend.generated\[1\] must be str, not int"),
        ('generated = ["PKG-INFO"', 'generated = ["../x"', r"'\.\./x' "),
        ('cann = "8.2"', "", "runtime.cann is missing"),
        ('manifest = "', 'manifest = "x', "upstream.manifest is malformed"),
        (
            'package = "tiny_ascend"',
            'package = "tiny_ascend"\nwheels = [1]',
            r"ascend.wheels\[1\] must be object",
        ),
        (
            'package = "tiny_ascend"',
            'package = "tiny_ascend"\nwheels = [{file = "a"}]',
            r"wheels\[1\].sha256 is m",
        ),
        ("[runtime]", f'[runtime]\nx = "{GOOD}"', "runtime.x is not a known key"),
        ("[result.files]", f'[result.files]\n"/x" = {{upstream = "{GOOD}"}}', "is not a relative path"),
        ("[result.files]", '[result.files]\n"x" = {}', "must differ from upstream"),
        ("[result.files]", '[result.files]\n"x" = {upstream = "zz"}', r"result.files\[...\].upstream is malformed"),
        ("[result.files]", "[result.files]\nx = 1", "must be object, not int"),
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


@pytest.mark.parametrize("name", [SET, "9.9.9", VERSION, f"v{VERSION}"])
def test_each_name_means_the_set(world: World, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("sets", name) == 0
    assert capsys.readouterr().out == f"{SET}\n"
    assert world.run("apply", name, "--no-smoke", "--offline") == 0
    assert world.run("status", name, "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["set"] == SET
    assert world.run("review", SET, "--against", name, "--offline") == 0


def test_an_unknown_name_is_told_the_sets(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("status", "9.9rc2") == 2
    assert f"name one of: {SET} (vLLM 9.9.9, vllm-ascend {VERSION})" in capsys.readouterr().err


def test_a_version_of_two_sets_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.another("v9.9.10")
    assert world.run("status", VERSION) == 2
    assert f"{VERSION!r} is of more than one set" in capsys.readouterr().err
    assert world.run("sets", "9.9.10") == 0
