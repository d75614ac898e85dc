# SPDX-License-Identifier: Apache-2.0
"""Graphs of this release: by default full ones for decodes, piecewise ones for prefills; and piecewise ones alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import conversations
import engine_runs
import pytest
from engine import Report, finished
from job import SOC_A3, EngineRun, Mode, Round, Tree
from reference import TOKENS

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]


@dataclass(frozen=True)
class PiecewiseRun(EngineRun):
    """An engine run whose graphs are piecewise, for decodes too."""

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        return f"{run}{', A3' * (self.soc == SOC_A3)}, piecewise on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        arguments["compilation_config"] |= {"cudagraph_mode": "PIECEWISE"}
        return arguments


PIECEWISE = PiecewiseRun(Tree.PATCHED, mode=Mode.ACL_GRAPH)
PIECEWISE_MC2 = replace(PIECEWISE, expert_parallel=True, soc=SOC_A3)
PRISTINE_PIECEWISE = replace(PIECEWISE, tree=Tree.PRISTINE)


@pytest.mark.parametrize("run", [PIECEWISE, PIECEWISE_MC2, PRISTINE_PIECEWISE], ids=str)
def test_tokens_of_piecewise_graphs(report_of: ReportOf, asked: Asked, run: EngineRun) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        assert report.tokens(turn.name) == asked(run, turn), turn.name
    found = {line["graph"] for turn in run.rounds for rank in report.ranks for line in rank.forwards(turn.name)}
    assert found == {"PIECEWISE", "NONE"}


@pytest.mark.defect("D4")
@pytest.mark.parametrize("run", [engine_runs.GRAPH, engine_runs.GRAPH_EP], ids=str)
def test_idle_rank_replays_the_same_graph(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """A graph for every step but the prefills that are too long for one: piecewise for a prefill, full for decodes."""
    report = finished(report_of(run))
    modes = {
        turn.name: [
            (busy["graph"], idle["graph"])
            for busy, idle in zip(*(rank.forwards(turn.name) for rank in report.ranks), strict=True)
        ]
        for turn in run.rounds
    }
    assert all(one == other for pairs in modes.values() for one, other in pairs)
    assert modes["one prompt"] == [("PIECEWISE", "PIECEWISE"), *[("FULL", "FULL")] * (TOKENS - 1)]
    assert ("NONE", "NONE") in modes["prefill beside a decode"]
    seen("idle rank replays")


def _slots_of_requests(report: Report) -> list[int]:
    """By idle step that makes metadata, from the first round on: its rows with a slot."""
    lines = [line for rank in report.ranks for line in rank.lines if line.get("metadata", "start") != "start"]
    assert lines, "no such step was looked at"
    return [line["slots"] for line in lines]


@pytest.mark.defect("D22")
@pytest.mark.parametrize("run", [conversations.PRISTINE_FULL_DECODE], ids=str)
def test_pristine_idle_metadata_is_made_of_slots_of_requests(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """An attention that copies them, as DeepSeek-V4's does, writes there; this one reads them later, when none is
    left."""
    slots = _slots_of_requests(finished(report_of(run)))
    assert any(slots)
    seen(f"slots of the last requests in {len([*filter(None, slots)])} of {len(slots)} steps")


@pytest.mark.defect("D22")
@pytest.mark.parametrize("run", [conversations.FULL_DECODE, conversations.FULL_DECODE_EP], ids=str)
def test_no_idle_metadata_has_a_slot(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    assert not any(_slots_of_requests(finished(report_of(run))))
    seen("none")
