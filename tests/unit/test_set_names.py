# SPDX-License-Identifier: Apache-2.0
"""A set by its name, its vLLM version or its vllm-ascend version, wherever a command takes one."""

import json

import pytest
from conftest import SET, VERSION, World

from patchset import cli


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
    other = world.root / "patches" / "v9.9.10"
    other.mkdir()
    for file in world.folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "set.toml").write_text((world.folder / "set.toml").read_text().replace('"9.9.9"', '"9.9.10"'))
    assert world.run("status", VERSION) == 2
    assert f"{VERSION!r} is of more than one set" in capsys.readouterr().err
    assert world.run("sets", "9.9.10") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "v1", "--to", "v9.9.10"], "no patch set 'v1'"),
        (["--from", SET, "--to", "next"], "'next' is no vLLM version"),
        (["--from", SET, "--to", "9.9.10", "--commit", "abc"], "'abc' is no git commit of 40 hex digits"),
        (["--from", SET, "--to", SET.removeprefix("v")], "is there already"),
    ],
)
def test_a_port_checks_its_words_before_anything_else(
    world: World, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The index of these tests is none: a port that asked it would end with 6."""
    assert cli.main(["port", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list((world.root / "build").glob("port/*/*"))
