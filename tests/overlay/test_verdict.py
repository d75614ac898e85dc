# SPDX-License-Identifier: Apache-2.0
"""What the beats of all ranks say about a wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Beat, Collective, Look, State, look_at
from vllm_ascend.data_parallel.verdict import Finding, Verdict, judge

pytestmark = pytest.mark.shared

SILENCE, STILL, AT = 4.0, 6.0, 100.0
DP = (0, 4)
GATHER = Collective("all_gather_into_tensor", "dp (device)", DP, 7, "float32[8,64]")
BROADCAST = Collective("broadcast", "dp (device)", DP, 7, "float32[8,64]")
METADATA = Collective("all_reduce", "of the metadata", DP, 7)
NEXT = Collective("all_reduce", "of the metadata", DP, 8)
ENGINES = Collective("all_reduce", "of vLLM's engines", DP, 0)
TO_ALL = Collective("all_to_all_single", "ep (device)", DP, 7, "float32[3,64]")


def beat(rank: int, at: Collective | State, seconds: float = 60.0, **more: object) -> Beat:
    collective = at if isinstance(at, Collective) else None
    state = State.COLLECTIVE if isinstance(at, Collective) else at
    step = collective.step if collective else 7
    told = Beat(rank, 2, state, step, "FORWARD", seconds, f"runner.py:{rank} in f", collective)
    return replace(told, **more)  # type: ignore[arg-type]


def judged(*beats: Beat, silent: tuple[int, ...] = (), members: Members | None = None) -> Verdict:
    heard = {one.rank: AT - (SILENCE + 1 if one.rank in silent else 0) for one in beats}
    look = Look(AT, {one.rank: one for one in beats}, heard)
    return judge(members or Members(range(len(beats))), look, SILENCE, STILL)


@pytest.mark.parametrize(
    ("places", "finding"),
    [
        ([METADATA] * 4, Finding.TOGETHER),
        ([METADATA, METADATA, METADATA, GATHER], Finding.DEADLOCK),
        ([BROADCAST, GATHER, GATHER, GATHER], Finding.DEADLOCK),
        ([METADATA, NEXT, NEXT, NEXT], Finding.DEADLOCK),
        ([ENGINES, NEXT, NEXT, NEXT], Finding.DEADLOCK),
        ([NEXT, NEXT, NEXT, State.IDLE], Finding.IDLE),
        ([NEXT, State.IDLE, State.IDLE, State.IDLE], Finding.IDLE),
        ([NEXT, NEXT, GATHER, State.IDLE], Finding.DEADLOCK),
        ([NEXT, NEXT, NEXT, State.DEVICE], Finding.DEVICE),
        ([NEXT, GATHER, BROADCAST, State.DEVICE], Finding.DEVICE),
        ([NEXT, NEXT, NEXT, State.WORKS], Finding.WORKING),
        ([GATHER, replace(GATHER, tensor="float32[9,64]"), GATHER, GATHER], Finding.DEADLOCK),
        ([METADATA, replace(METADATA, tensor="int32[3]"), METADATA, METADATA], Finding.DEADLOCK),
        ([TO_ALL, replace(TO_ALL, tensor="float32[0,64]"), TO_ALL, TO_ALL], Finding.TOGETHER),
        ([replace(GATHER, ranks=None), METADATA, METADATA, METADATA], Finding.TOGETHER),
    ],
)
def test_who_is_in_what(places: list[Collective | State], finding: Finding) -> None:
    verdict = judged(*(beat(rank, place) for rank, place in enumerate(places)))
    assert verdict.finding is finding
    assert verdict.finding.proved == (finding is Finding.DEADLOCK)


def test_two_groups_that_are_each_whole_are_no_deadlock() -> None:
    """Tensor-parallel ranks: each pair in its own all-reduce, which HCCL may carry out yet."""
    first, second = (Collective("all_reduce", "tp (device)", (start, 2), 7, "float32[8]") for start in (0, 2))
    places = [first, first, second, second]
    assert judged(*(beat(rank, place) for rank, place in enumerate(places))).finding is Finding.TOGETHER
    assert judged(*(beat(rank, place) for rank, place in enumerate([first, METADATA, second, METADATA]))).finding is (
        Finding.DEADLOCK
    )


def test_a_send_that_meets_its_receiver_may_end() -> None:
    send, receive = (Collective(op, "pp (cpu)", (0, 2), 7) for op in ("send", "recv"))
    assert judged(beat(0, send), beat(1, receive)).finding is Finding.TOGETHER
    assert judged(beat(0, replace(METADATA, ranks=(0, 2))), beat(1, receive)).finding is Finding.DEADLOCK
    assert judged(beat(0, send), beat(1, State.IDLE)).finding is Finding.IDLE


def test_a_rank_that_moved_a_moment_ago_works() -> None:
    """A call between two steps that has just ended: its rank is in another collective, and nothing is stuck."""
    verdict = judged(beat(0, METADATA), beat(1, METADATA), beat(2, METADATA), beat(3, GATHER, seconds=STILL / 2))
    assert (verdict.finding, verdict.ranks) == (Finding.WORKING, (3,))
    assert verdict.why(Members(range(4))) == "DP rank 3 still works"


def test_different_decisions_of_one_step_are_a_deadlock_wherever_the_ranks_are() -> None:
    one, other = (beat(rank, State.DEVICE, decision=made) for rank, made in enumerate(("a", "b")))
    assert judged(one, other).finding is Finding.DEADLOCK
    assert judged(one, replace(other, decision="a")).finding is Finding.DEVICE
    assert judged(one, replace(other, step=8)).finding is Finding.DEVICE  # of another step
    assert judged(one, other, members=Members(range(2), 2)).finding is Finding.DEVICE  # of another DP group


def test_a_rank_that_says_no_more_is_silent_and_one_whose_connection_broke_has_gone() -> None:
    stopped = [beat(rank, METADATA) for rank in range(4)]
    verdict = judged(*stopped, silent=(3,))
    assert (verdict.finding, verdict.ranks) == (Finding.SILENT, (3,))
    assert "DP rank 3: says no more; last: waits in all_reduce" in verdict.told
    broken = [replace(one, lost_next=one.rank == 2) for one in stopped]
    assert judged(*broken, silent=(3,)).finding is Finding.GONE
    assert judged(*broken).finding is Finding.TOGETHER  # only the connection has gone
    last = [replace(one, lost_next=one.rank == 3) for one in stopped]
    assert judged(*last, silent=(0,)).ranks == (0,)  # in a ring
    assert judge(Members(range(4)), Look(AT, {}, {}), SILENCE, STILL).finding is Finding.SILENT


def test_a_rank_whose_beat_is_late_is_silent_only_when_it_stays_away() -> None:
    beats = {0: beat(0, METADATA), 1: beat(1, State.WORKS)}
    look = look_at(beats, AT, None)
    for seconds, finding in ((SILENCE, Finding.WORKING), (SILENCE + 0.1, Finding.SILENT)):
        beats[0] = replace(beats[0], count=beats[0].count + 1)
        look = look_at(dict(beats), AT + seconds, look)
        assert judge(Members(range(2)), look, SILENCE, STILL).finding is finding
    beats[1] = replace(beats[1], count=beats[1].count + 1)
    look = look_at(beats, AT + SILENCE + 1, look)
    assert judge(Members(range(2)), look, SILENCE, STILL).finding is Finding.WORKING


def test_one_that_ends_is_named_with_its_reason() -> None:
    verdict = judged(beat(0, METADATA), beat(1, State.WORKS, ending="execute_model failed: OSError()"))
    assert verdict.finding is Finding.ENDING and verdict.finding.proved
    assert "ends: execute_model failed: OSError()" in verdict.told
    assert verdict.why(Members(range(2))) == "DP rank 1 has ended or ends"


def test_ranks_that_say_the_same_are_one_line() -> None:
    told = judged(*(replace(beat(rank, METADATA, 61.0 + rank), at="a.py:1 in f") for rank in range(40))).told
    assert told == (
        "DP rank 0, DP rank 1, DP rank 2, DP rank 3, DP rank 4, DP rank 5, DP rank 6, DP rank 7 and 32 more: waits in "
        "all_reduce on the group of the metadata (step 7, a.py:1 in f), for 100 s"
    )


@pytest.mark.parametrize("one", [beat(3, GATHER, decision="ab", lost_next=True, ending="why"), beat(0, State.IDLE)])
def test_a_beat_comes_as_it_was_told_in_few_bytes(one: Beat) -> None:
    assert Beat.loads(one.dumps()) == one
    assert len(one.dumps()) < 400
