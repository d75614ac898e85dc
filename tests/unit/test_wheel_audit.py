# SPDX-License-Identifier: Apache-2.0
"""Wheels that must not be repacked: one clear error each, its exit code, and nothing left in dist/."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, UPSTREAM, Capture, World
from wheel_world import (
    INFO,
    PATCHED,
    TAGS,
    Raw,
    dist,
    edited,
    house,
    members,
    name,
    pack,
    pin,
    plus,
    publish,
    replaced,
    tree,
    without,
)

TAG = TAGS[0]


@pytest.fixture(autouse=True)
def no_cann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.delenv("COMPILE_CUSTOM_KERNELS", raising=False)


def refused(world: World, capsys: Capture, *words: str) -> tuple[int, str]:
    """The exit code and message of a run that must leave nothing."""
    capsys.readouterr()
    code = world.run("wheels", SET, "--offline", *words)
    assert code and not (world.root / "dist").exists()
    assert not list((world.root / "build").glob("*/wheel-*/"))
    said = capsys.readouterr().err
    lines = [line.partition(" ")[0] for line in said.splitlines()]
    assert (lines.count("error:"), lines.count("next:")) == (1, 1)
    return code, said


STALE = UPSTREAM[f"{PACKAGE}/runner.py"].replace("step_5 ", "stepp_5 ").encode()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (plus(Raw(f"{PACKAGE}/../evil.py")), 2, "leaves the tree"),
        (plus(Raw(f"{INFO}/patchset.json", b"{}")), 5, "a wheel that patchset made"),
        (replaced(f"{PACKAGE}/runner.py", STALE), 3, "0001-steps.patch does not apply: tiny_ascend/runner.py"),
        (without(f"{PACKAGE}/runner.py"), 5, f"{PACKAGE}/runner.py: missing"),
    ],
    ids=["path above", "made by patchset", "a patch does not fit", "a patched file is missing"],
)
def test_a_pinned_wheel_is_audited(world: World, capsys: Capture, change, code: int, message: str) -> None:  # type: ignore[no-untyped-def]
    """Even a wheel that a set pins by digest: whoever pins it has not looked inside."""
    pin(world, {name(TAG): edited(change)})
    found, said = refused(world, capsys)
    assert message in said
    assert found == code


@pytest.fixture
def wheelhouse(world: World, tmp_path: Path) -> Path:
    return house(world, tmp_path / "wheelhouse")


def test_a_given_wheel_of_another_digest(world: World, capsys: Capture, wheelhouse: Path) -> None:
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
    world: World, capsys: Capture, tmp_path: Path, file: str, message: str, whole: bool
) -> None:
    publish(world)
    given = tmp_path / "given" / file
    given.parent.mkdir()
    given.write_bytes(pack(members(TAG)))
    code, said = refused(world, capsys, "--upstream", str(given.parent if whole else given))
    assert code == 5
    assert message in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "has none of the set's wheels"),
        ("x.whl", "not named as a wheel"),
    ],
)
def test_no_wheel_is_given(world: World, capsys: Capture, tmp_path: Path, given: str, message: str) -> None:
    publish(world)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.whl").write_bytes(b"")
    code, said = refused(world, capsys, "--upstream", str(tmp_path / given))
    assert code == 2
    assert message in said


def test_a_set_without_wheels(world: World, capsys: Capture) -> None:
    code, said = refused(world, capsys)
    assert code == 2
    assert "pins no wheels" in said


def test_a_wheel_that_is_not_cached(world: World, capsys: Capture) -> None:
    file = name(TAG)
    pin(world, {file: pack(members(TAG))})
    for cached in Path(world.cached).parents[1].glob(f"*/{file}"):
        cached.unlink()
    code, said = refused(world, capsys)
    assert code == 6
    assert f"{file} is not in the cache" in said


def test_a_label_that_is_none(world: World, capsys: Capture) -> None:
    publish(world)
    code, said = refused(world, capsys, "--local", "dp 1")
    assert code == 2
    assert "no local version label" in said


def test_a_stale_record_of_the_set(world: World, capsys: Capture) -> None:
    publish(world)
    world.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 43\n"})
    code, said = refused(world, capsys)
    assert code == 5
    assert f"patchset pin {SET}" in said


# FROM=source where it cannot work; tests/wheels builds the real tree.


def test_kernels_need_cann(world: World, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = refused(world, capsys, "--from", "source")
    assert code == 6
    assert "no CANN here" in said and "COMPILE_CUSTOM_KERNELS=0" in said
    monkeypatch.setenv("ASCEND_HOME_PATH", "/no/such/folder")
    assert "no folder /no/such/folder" in refused(world, capsys, "--from", "source")[1]


@pytest.mark.parametrize(
    ("switch", "words", "code", "why"),
    [
        ("no", (), 2, ["COMPILE_CUSTOM_KERNELS='no'"]),
        # The tool's own environment has no setuptools.
        ("0", ("--python", sys.executable), 6, ["could not build the wheel", "setuptools", "wheel-from-source.log"]),
        ("0", ("--python", "/nowhere/python"), 2, ["--python is an interpreter"]),
        ("0", ("--python", sys.executable, "--upstream", "checkout"), 5, ["README.md: changed"]),
    ],
    ids=["a switch that upstream would not read", "no build requirements", "no interpreter", "another upstream"],
)
def test_a_build_that_cannot_be(
    world: World, capsys: Capture, monkeypatch: pytest.MonkeyPatch, switch: str, words: tuple[str, ...], code: int, why
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COMPILE_CUSTOM_KERNELS", switch)
    monkeypatch.chdir(world.root)
    (world.checkout(world.root / "checkout") / "README.md").write_text("changed\n")
    found, said = refused(world, capsys, "--from", "source", *words)
    assert found == code
    assert all(one in said for one in why), said


def test_python_is_for_source_alone(world: World, capsys: Capture) -> None:
    assert world.run("wheels", SET, "--offline", "--python", sys.executable) == 2
    assert "--python is for --from source" in capsys.readouterr().err


def test_earlier_wheels_stay(world: World) -> None:
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    before = tree(dist(world))
    assert world.run("wheels", SET, "--offline", "--from", "source") == 6
    assert tree(world.root / "dist") == {f"{SET}/{path}": data for path, data in before.items()}
