# SPDX-License-Identifier: Apache-2.0
"""An idle rank's drafter beside a long prompt, with an lm head that is split over the DP ranks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from checkpoints import Model
from drafted import DraftedRun
from engine import Outcome, Report, finished
from job import EngineRun, Round, Tree
from reference import PROMPTS

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]

DRAFTS = 2
_LONGEST = max(range(len(PROMPTS)), key=lambda index: len(PROMPTS[index]))


@dataclass(frozen=True)
class TwoDraftsRun(DraftedRun):
    """Each step drafts twice, and an MLP that is split too makes an idle rank's rows those of the busy one."""

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        return f"{run}, two drafts, MLP parallel on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        arguments["speculative_config"]["num_speculative_tokens"] = DRAFTS
        arguments["additional_config"]["finegrained_tp_config"]["mlp_tensor_parallel_size"] = self.dp_size
        return arguments


# The head takes the rows of one request with its drafts: DRAFTS + 1.
PATCHED = TwoDraftsRun(
    Tree.PATCHED,
    Model.DEEPSEEK_V3,
    lmhead_parallel=True,
    max_seqs=1,
    rounds=(Round("a long prompt", ((_LONGEST,), ())),),
)
PRISTINE = replace(PATCHED, tree=Tree.PRISTINE)
assert len(PROMPTS[_LONGEST]) >= (DRAFTS + 1) * (DRAFTS + 2), "an idle rank drafts for no more requests than it may"


@pytest.mark.defect("D44")
@pytest.mark.parametrize("run", [PRISTINE], ids=str)
def test_pristine_idle_rank_drafts_for_more_requests_than_the_head_takes(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    report = report_of(run)
    assert report.ready and report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(report.outcome.value)


@pytest.mark.defect("D44")
@pytest.mark.parametrize("run", [PATCHED], ids=str)
def test_an_idle_rank_drafts_for_as_many_requests_as_the_head_takes(
    report_of: ReportOf, asked: Asked, run: EngineRun, seen: Seen
) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        assert report.tokens(turn.name) == asked(run, turn), turn.name
    seen("answers")
