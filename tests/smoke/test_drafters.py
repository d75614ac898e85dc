# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding under DP: a drafter follows the step instead of synchronising on its own."""

from collections.abc import Callable

import pytest
from checkpoints import Model
from drafted import DraftedLife
from engine import Report, finished
from job import Life, Tree

Live = Callable[[Life], Report]
Expected = Callable[[Model], dict[int, list[int]]]

MTP = DraftedLife(Tree.PATCHED, Model.DEEPSEEK_V3)


@pytest.mark.parametrize("life", [MTP], ids=str)
def test_tokens_are_those_without_drafts(live: Live, expected: Expected, life: DraftedLife) -> None:
    report = finished(live(life))
    want = expected(life.model)
    for turn in life.rounds:
        asked = {index: want[index] for rank in range(life.dp_size) for index in turn.asked(rank)}
        assert report.tokens(turn.name) == asked, turn.name
