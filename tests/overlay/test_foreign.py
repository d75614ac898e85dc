# SPDX-License-Identifier: Apache-2.0
"""Whose code a method is: replaced, swapped or wrapped."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

from vllm_ascend.data_parallel.foreign import is_foreign, steps_are_foreign


def execute_model(self: Any, *_: Any) -> None:
    """Another program's."""


def runner_of(**methods: Any) -> Any:
    """Upstream's runner, without a model, with other methods in place of its own."""
    kind = type("Runner", (NPUModelRunner,), methods)
    return kind.__new__(kind)


def swapped() -> Any:
    """A function that says to be upstream's, with another program's code."""

    def found(self: Any, *_: Any) -> None:
        pass

    functools.update_wrapper(found, NPUModelRunner.load_model)
    del found.__wrapped__  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("methods", "foreign"),
    [
        ({}, False),
        ({"execute_model": execute_model}, True),
        ({"_dummy_run": swapped()}, True),
        ({"_dummy_run": functools.wraps(NPUModelRunner._dummy_run)(lambda *_: None)}, False),
        ({"sample_tokens": execute_model}, False),
    ],
    ids=["upstream's", "replaced", "swapped", "wrapped", "no part of a step"],
)
def test_whose_step_it_is(methods: dict[str, Any], foreign: bool) -> None:
    assert steps_are_foreign(runner_of(**methods)) is foreign


def test_a_wrapper_is_another_programs_where_it_decides() -> None:
    own = NPUModelRunner.load_model
    assert not is_foreign(own)
    assert is_foreign(functools.wraps(own)(lambda self: own(self)))
    assert not is_foreign(len)
