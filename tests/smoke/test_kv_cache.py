# SPDX-License-Identifier: Apache-2.0
"""What a request leaves in the KV cache stays there until another request is given the block."""

from collections.abc import Callable
from pathlib import Path

import conversations
import drafted
import engine_runs
import pytest
import uneven
from checkpoints import Model
from conversations import ConversingRun
from engine import RankReport, Report, finished
from job import EngineRun, Tree

ReportOf = Callable[[EngineRun], Report]
Checkpoint = Callable[[Model], Path]
Seen = Callable[[str], None]

SECOND_TURNS = range(1, 2 * conversations.CONVERSATIONS, 2)


def _written(rank: RankReport) -> list[int]:
    """By step that stands for no request: elements of K and V that it changed (kv_probe.py)."""
    return [line["changed"] for line in rank.lines if "dummy" in line]


def _every_patched_run() -> list[object]:
    named = (one for module in (engine_runs, drafted, conversations, uneven) for one in vars(module).values())
    found = dict.fromkeys(one for one in named if isinstance(one, EngineRun) and one.tree is Tree.PATCHED)
    shows = pytest.mark.defect("D22")
    return [pytest.param(one, id=str(one), marks=[shows] * (one in conversations.FULL_DECODES)) for one in found]


@pytest.mark.parametrize("run", conversations.PATCHED, ids=str)
def test_second_turns_are_answered_from_the_cache(
    report_of: ReportOf, checkpoint: Checkpoint, run: ConversingRun
) -> None:
    closing = finished(report_of(run)).ranks[0].rounds()[conversations.ROUND.name]
    assert {closing["cached"][str(turn)] for turn in SECOND_TURNS} == {conversations.BLOCK}, "no block was reused"
    assert {int(turn): ids for turn, ids in closing["tokens"].items()} == conversations.expected(checkpoint(run.model))


@pytest.mark.quick
@pytest.mark.parametrize("run", _every_patched_run())
def test_no_step_without_a_request_writes_to_a_block(report_of: ReportOf, run: EngineRun) -> None:
    """Idle, profiling and capture steps, of every engine run and rank."""
    written = [_written(rank) for rank in finished(report_of(run)).ranks]
    if any(() in turn.prompts for turn in run.rounds):
        assert any(written), "no such step was looked at"
    assert not any(map(any, written)), f"steps by rank that wrote: {[len([*filter(None, of)]) for of in written]}"


@pytest.mark.defect("D22")
@pytest.mark.parametrize("run", [conversations.PRISTINE_FULL_DECODE_DENSE], ids=str)
def test_pristine_idle_steps_write_over_what_a_turn_has_left(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """The first idle step after each turn writes the slot of its last token anew; the next ones write the same."""
    idle, _ = (_written(rank) for rank in finished(report_of(run)).ranks)
    assert len([*filter(None, idle)]) == 2 * conversations.CONVERSATIONS
    seen(f"{2 * conversations.CONVERSATIONS} times in as many turns")


@pytest.mark.defect("D22")
@pytest.mark.parametrize("run", [conversations.PRISTINE_FULL_DECODE], ids=str)
def test_pristine_second_turns_are_wrong(
    report_of: ReportOf, checkpoint: Checkpoint, run: ConversingRun, seen: Seen
) -> None:
    """Each reads the block whose last slot an idle step has written anew; how many tokens differ for it is chance."""
    closing = finished(report_of(run)).ranks[0].rounds()[conversations.ROUND.name]
    want = conversations.expected(checkpoint(run.model))
    wrong = [turn for turn in SECOND_TURNS if closing["tokens"][str(turn)] != want[turn]]
    assert wrong
    assert all(closing["tokens"][str(turn)] == want[turn] for turn in want if turn not in SECOND_TURNS)
    seen(f"{len(wrong)} of {len(SECOND_TURNS)} second turns are wrong")


def _rows_of_requests(report: Report) -> list[int]:
    """By step without a request that makes metadata, from the first round on: rows that point at a request's blocks."""
    lines = [line for rank in report.ranks for line in rank.lines if line.get("metadata", "start") != "start"]
    assert lines, "no such step was looked at"
    return [line["blocks"] for line in lines]


@pytest.mark.defect("D28")
@pytest.mark.parametrize("run", [conversations.PRISTINE_FULL_DECODE], ids=str)
def test_pristine_idle_steps_have_rows_of_the_last_requests(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """A hybrid model finds its state by them, and writes it."""
    rows = _rows_of_requests(finished(report_of(run)))
    assert any(rows)
    seen(f"{len([*filter(None, rows)])} of {len(rows)} steps")


@pytest.mark.defect("D28")
@pytest.mark.parametrize("run", [conversations.FULL_DECODE, conversations.FULL_DECODE_EP], ids=str)
def test_no_row_of_an_idle_step_is_a_requests(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    assert not any(_rows_of_requests(finished(report_of(run))))
    seen("none")
