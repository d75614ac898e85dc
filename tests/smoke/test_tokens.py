# SPDX-License-Identifier: Apache-2.0
"""Greedy tokens equal Hugging Face's on the same checkpoint, however the requests are spread."""

from collections.abc import Callable

import lives
import pytest
from checkpoints import Model
from engine import Report, finished
from job import Life


@pytest.mark.quick
@pytest.mark.parametrize("life", lives.PATCHED, ids=str)
def test_tokens_equal_reference(
    live: Callable[[Life], Report], expected: Callable[[Model], dict[int, list[int]]], life: Life
) -> None:
    report = finished(live(life))
    want = expected(life.model)
    for turn in life.rounds:
        asked = {index: want[index] for rank in range(life.dp_size) for index in turn.asked(rank)}
        assert report.tokens(turn.name) == asked, turn.name


# The lives that differ from them in that alone.
_TRACED = (lives.EAGER, lives.GRAPH, lives.FULL_DECODE, lives.TORCHAIR, lives.TORCHAIR_DEEPSEEK)


@pytest.mark.standin
@pytest.mark.parametrize(("life", "traced"), zip(lives.UNTRACED, _TRACED, strict=True), ids=str)
def test_tokens_do_not_depend_on_the_trace(live: Callable[[Life], Report], life: Life, traced: Life) -> None:
    """The stand-in computes the same with its trace and without."""
    without, with_trace = finished(live(life)), finished(live(traced))
    for turn in life.rounds:
        assert without.tokens(turn.name) == with_trace.tokens(turn.name), turn.name
