# SPDX-License-Identifier: Apache-2.0
"""Which tests a release has nothing to show for: those that defects.toml names, and no others."""

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Facts
from job import EngineRun, Tree

pytestmark = pytest.mark.shared

FACTS = Facts(
    absent=frozenset({"D1", "test_a_part"}),
    unreachable=frozenset({"D5"}),
    runs=frozenset({"qwen3_moe, T"}),
    tests=frozenset({"test_of_others"}),
)


def item(*names: str, tree: Tree = Tree.PRISTINE, test: str = "test_it", run: str = "", **mark: bool) -> Any:
    marks = [SimpleNamespace(args=names, kwargs=mark)] if names else []
    params = {"tree": tree} | ({"run": _EngineRun(run, tree)} if run else {})
    return SimpleNamespace(
        iter_markers=lambda _: iter(marks), callspec=SimpleNamespace(params=params), originalname=test, name=test
    )


class _EngineRun(EngineRun):
    def __init__(self, name: str, tree: Tree) -> None:
        super().__init__(tree)
        object.__setattr__(self, "name", name)

    def __str__(self) -> str:
        return str(vars(self)["name"])


@pytest.mark.parametrize(
    ("found", "left_out"),
    [
        (item("D1"), True),
        (item("D1", tree=Tree.PATCHED), False),
        (item("D1", "D2"), False),
        (item("D2"), False),
        (item("D2", test="test_a_part"), True),
        (item("D2", test="test_a_part", tree=Tree.PATCHED), False),
        (item("D5"), True),
        (item("D5", tree=Tree.PATCHED), True),
        (item("D5", refuted=True), False),
        (item("D2", refuted=True), True),
        (item(run="qwen3_moe, TorchAir, DP=2"), True),
        (item(run="qwen3, eager"), False),
        (item("D2", test="test_of_others", tree=Tree.PATCHED), True),
        (item(test="test_of_others"), True),
        (item(), False),
    ],
)
def test_what_is_left_out(found: Any, left_out: bool) -> None:
    assert FACTS.leave_out(found) is left_out


def test_a_set_that_is_not_named_leaves_out_what_is_refuted_alone() -> None:
    facts = Facts.of("no such set")
    assert not facts.leave_out(item("D1")) and facts.leave_out(item("D5", refuted=True))


def test_every_fact_has_a_reason() -> None:
    tables = tomllib.loads((Path(__file__).parent / "defects.toml").read_text())
    reasons = [
        why
        for name in ("absent", "unreachable", "runs", "tests")
        for of_set in tables[name].values()
        for why in of_set.values()
    ]
    assert reasons and all(isinstance(why, str) and len(why) > 10 for why in reasons)


def test_the_prompts_that_a_release_gets_wrong_are_those_of_the_longest_name() -> None:
    wrong = {"qwen3, eager": frozenset({1, 5}), "qwen3, eager, DP=2, MTP": frozenset({6})}
    facts = Facts(frozenset(), frozenset(), frozenset(), wrong=wrong)
    named = {name: facts.gets_wrong(_EngineRun(name, Tree.PATCHED)) for name in ("qwen3, eager, DP=2", "qwen3, graph")}
    assert named == {"qwen3, eager, DP=2": {1, 5}, "qwen3, graph": frozenset()}
    assert facts.gets_wrong(_EngineRun("qwen3, eager, DP=2, MTP on patched", Tree.PATCHED)) == {6}


def test_every_wrong_prompt_has_a_reason() -> None:
    tables = tomllib.loads((Path(__file__).parent / "defects.toml").read_text())
    facts = [one for of_set in tables["wrong"].values() for one in of_set.values()]
    assert facts and all(one["prompts"] and len(one["why"]) > 10 for one in facts)
