# SPDX-License-Identifier: Apache-2.0
"""Which tests a release has nothing to show for: those that defects.toml names, and no others."""

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Facts
from job import Tree

pytestmark = pytest.mark.shared

FACTS = Facts(
    absent=frozenset({"D1", "test_a_part"}),
    unreachable=frozenset({"D5"}),
    lives=frozenset({"qwen3_moe, T"}),
    tests=frozenset({"test_another_thing"}),
)


def item(*names: str, tree: Tree = Tree.PRISTINE, test: str = "test_it", life: str = "", **mark: bool) -> Any:
    marks = [SimpleNamespace(args=names, kwargs=mark)] if names else []
    params = {"tree": tree} | ({"life": _Life(life, tree)} if life else {})
    return SimpleNamespace(
        iter_markers=lambda _: iter(marks), callspec=SimpleNamespace(params=params), originalname=test, name=test
    )


class _Life:
    def __init__(self, name: str, tree: Tree) -> None:
        self.name, self.tree = name, tree

    def __str__(self) -> str:
        return self.name


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
        (item(life="qwen3_moe, TorchAir, DP=2"), True),
        (item(life="qwen3, eager"), False),
        (item(test="test_another_thing", tree=Tree.PATCHED), True),
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
        for name in ("absent", "unreachable", "lives", "tests")
        for of_set in tables[name].values()
        for why in of_set.values()
    ]
    assert reasons and all(isinstance(why, str) and len(why) > 10 for why in reasons)
