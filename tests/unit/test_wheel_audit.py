# SPDX-License-Identifier: Apache-2.0
"""Wheels that must not be repacked: one clear error each, its exit code, and nothing left in dist/."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World
from wheel_world import (
    FILE,
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
    without,
)

TAG = TAGS[0]


def refused(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code and message of a run that must leave nothing."""
    capsys.readouterr()
    code = world.run("wheels", SET, "--offline", *words)
    assert code and not (world.root / "dist").exists()
    said = capsys.readouterr().err
    lines = [line.partition(" ")[0] for line in said.splitlines()]
    assert (lines.count("error:"), lines.count("next:")) == (1, 1)
    return code, said


RUNNER = UPSTREAM[f"{PACKAGE}/runner.py"]

PINNED = {
    "path above": (edited(plus(Raw(f"{PACKAGE}/../evil.py"))), 2, "leaves the tree"),
    "file changed under its RECORD": (
        edited(replaced(f"{PACKAGE}/comm.py", b"tampered = True\n"), true_record=False),
        5,
        f"{PACKAGE}/comm.py is not what",
    ),
    "made by patchset": (edited(plus(Raw(f"{INFO}/patchset.json", b"{}"))), 5, "a wheel that patchset made"),
    "a patch does not fit": (
        edited(replaced(f"{PACKAGE}/runner.py", RUNNER.replace("step_5 ", "stepp_5 ").encode())),
        3,
        "0001-steps.patch does not apply: tiny_ascend/runner.py",
    ),
    "a patched file is missing": (
        edited(without(f"{PACKAGE}/runner.py")),
        5,
        f"{PACKAGE}/runner.py: missing",
    ),
    "another file is changed": (
        edited(replaced(f"{PACKAGE}/comm.py", b"other = True\n")),
        5,
        f"{PACKAGE}/comm.py: changed",
    ),
    "has what the set adds": (
        edited(plus(Raw(f"{PACKAGE}/data_parallel/plan.py", b""))),
        2,
        "data_parallel/plan.py, which the set adds",
    ),
}


@pytest.mark.parametrize(("data", "code", "message"), PINNED.values(), ids=PINNED.keys())
def test_a_pinned_wheel_is_audited(
    world: World, capsys: pytest.CaptureFixture[str], data: bytes, code: int, message: str
) -> None:
    """Even a wheel that a set pins by digest: whoever pins it has not looked inside."""
    pin(world, {name(TAG): data})
    found, said = refused(world, capsys)
    assert message in said
    assert found == code


@pytest.fixture
def wheelhouse(world: World, tmp_path: Path) -> Path:
    return house(world, tmp_path / "wheelhouse")


def test_a_given_wheel_of_another_digest(world: World, capsys: pytest.CaptureFixture[str], wheelhouse: Path) -> None:
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
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, message: str, whole: bool
) -> None:
    publish(world)
    given = tmp_path / "given" / file
    given.parent.mkdir()
    given.write_bytes(pack(members(TAG)))
    code, said = refused(world, capsys, "--upstream", str(given.parent if whole else given))
    assert code == 5
    assert message in said


def test_a_wheel_that_patchset_made_is_not_patched_again(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    made = tmp_path / "made"
    dist(world).parent.rename(made)
    code, said = refused(world, capsys, "--upstream", str(made / SET / name(TAG, PATCHED)))
    assert code == 5
    assert "a patched wheel already" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "has none of the set's wheels"),
        ("x.whl", "not named as a wheel"),
    ],
)
def test_no_wheel_is_given(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str, message: str
) -> None:
    publish(world)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.whl").write_bytes(b"")
    code, said = refused(world, capsys, "--upstream", str(tmp_path / given))
    assert code == 2
    assert message in said


def test_a_set_without_wheels(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(world, capsys)
    assert code == 2
    assert "pins no wheels" in said


def test_a_wheel_that_is_not_cached(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    file = name(TAG)
    pin(world, {file: pack(members(TAG))})
    for cached in Path(world.cached).parents[1].glob(f"*/{file}"):
        cached.unlink()
    code, said = refused(world, capsys)
    assert code == 6
    assert f"{file} is not in the cache" in said


@pytest.mark.parametrize("label", ["dp 1", "", "dp_1", "DP.1", "dp.01", "../x", "1.0+x"])
def test_a_label_that_is_none(world: World, capsys: pytest.CaptureFixture[str], label: str) -> None:
    publish(world)
    code, said = refused(world, capsys, "--local", label)
    assert code == 2
    assert "no local version label" in said


def test_a_stale_record_of_the_set(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    publish(world)
    world.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 43\n"})
    code, said = refused(world, capsys)
    assert code == 5
    assert f"patchset record {SET}" in said


def test_mode_bits_of_no_file_type_are_taken_for_a_file(world: World) -> None:
    """Some packers write permission bits alone."""
    data = edited(lambda raws: [replace(raw, mode=0o644) if raw.mode == FILE else raw for raw in raws])
    pin(world, {name(TAG): data})
    assert world.run("wheels", SET, "--offline") == 0
