# SPDX-License-Identifier: Apache-2.0
"""What each rank does in a step, as traced by the stand-in: collectives and reads of the device."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import engine_runs
import pytest
import steptrace
from engine import Report, finished
from job import EngineRun

pytestmark = pytest.mark.standin

ReportOf = Callable[[EngineRun], Report]
Seen = Callable[[str], None]


@pytest.mark.defect("D16")
@pytest.mark.parametrize("run", engine_runs.TRACED, ids=str)
def test_one_metadata_collective_per_step(
    report_of: ReportOf, run: EngineRun, release: Mapping[str, Any], seen: Seen
) -> None:
    """Exactly one over the DP ranks, on the group that is the release's default; none where a rank decides alone."""
    wanted = 0 if run in engine_runs.ALONE else 1
    for number, rank in enumerate(finished(report_of(run)).ranks):
        steps = rank.serving_steps()
        assert steps
        counts = Counter(len(step.metadata_collectives) for step in steps)
        assert set(counts) == {wanted}, f"rank {number}: steps by number of collectives: {dict(counts)}"
        devices = {one.device for step in steps for one in step.metadata_collectives}
        assert devices <= {release["metadata"]}, f"rank {number}: on {devices}"
    group = {"npu": "device", "cpu": "hosts'"}[release["metadata"]]
    seen(f"one all-reduce a step, on the {group} group" if wanted else "none where a rank decides alone")


@pytest.mark.defect("D13")
@pytest.mark.parametrize("run", engine_runs.TRACED, ids=str)
def test_at_most_one_blocking_read_for_metadata(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    allowed = 0 if run in engine_runs.ALONE else 1
    for number, rank in enumerate(finished(report_of(run)).ranks):
        for step in rank.serving_steps():
            assert len(step.metadata_reads) <= allowed, f"rank {number}, {step.what}: {step.metadata_reads}"
    seen("at most one" if allowed else "none where a rank decides alone")


@pytest.mark.quick
@pytest.mark.parametrize("run", engine_runs.TRACED_DP2, ids=str)
def test_ranks_issue_the_same_collectives(report_of: ReportOf, run: EngineRun) -> None:
    """A busy, a prefilling, a decoding and an idle rank: one sequence, step by step."""
    first, second = (rank.serving_steps() for rank in finished(report_of(run)).ranks)
    for number, (one, other) in enumerate(zip_longest(first, second)):
        assert one is not None and other is not None, f"a rank made {len(first)} steps, the other {len(second)}"
        agreed = [[each.agreed for each in step.collectives] for step in (one, other)]
        assert agreed[0] == agreed[1], f"step {number}: {one.what} against {other.what}"


def _prefills(report: Report, turn: str) -> list[list[bool]]:
    """By rank: with_prefill of each forward pass of a round."""
    return [[line["with_prefill"] for line in rank.forwards(turn)] for rank in report.ranks]


@pytest.mark.parametrize("run", engine_runs.TRACED_DP2, ids=str)
def test_ranks_decide_alike(report_of: ReportOf, run: EngineRun) -> None:
    """with_prefill is the same on both ranks in every forward pass."""
    report = finished(report_of(run))
    for turn in run.rounds:
        first, second = _prefills(report, turn.name)
        assert first == second, turn.name


@pytest.mark.defect("D38")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_DENSE], ids=str)
def test_pristine_dense_ranks_wait_for_each_other(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    for rank in finished(report_of(run)).ranks:
        steps = rank.serving_steps()
        assert steps
        assert all(step.metadata_collectives for step in steps)
    seen("a collective a step")


@pytest.mark.defect("D38")
@pytest.mark.parametrize("run", [engine_runs.DENSE, engine_runs.DENSE_GRAPH], ids=str)
def test_dense_ranks_exchange_nothing(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """No collective of any kind and no read of the device for a step; each rank computes its own rows."""
    report = finished(report_of(run))
    for rank in report.ranks:
        steps = rank.serving_steps()
        assert steps
        assert not any(step.collectives or step.metadata_reads for step in steps)
    idle = [line["rows"] for line in report.ranks[1].forwards("one prompt")]
    assert idle and set(idle) == {1}, f"rows of the idle rank: {idle}"
    seen("none, and no read of the device")


@pytest.mark.defect("D19")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_SHARED_EXPERT_DP], ids=str)
def test_pristine_shared_expert_dp_decides_by_rank(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """Nothing is exchanged but the counts, by vLLM: a prefill on one rank is a decode on the other."""
    report = report_of(run)
    (first, second), steps = _prefills(report, "one prompt"), report.ranks[0].serving_steps()
    assert first[0] and not second[0]
    assert {one.shape for step in steps for one in step.metadata_collectives} == {(run.dp_size,)}
    seen("a prefill on one rank, a decode on the other")


@pytest.mark.defect("D19")
@pytest.mark.parametrize("run", [engine_runs.SHARED_EXPERT_DP], ids=str)
def test_shared_expert_dp_decides_alike(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    first, second = _prefills(finished(report_of(run)), "one prompt")
    assert first == second == [True] + [False] * (len(first) - 1)
    seen("a prefill on both, then decodes")


@pytest.mark.defect("D13")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_GRAPH], ids=str)
def test_pristine_reads_the_device_several_times_per_step(
    report_of: ReportOf, run: EngineRun, release: Mapping[str, Any], seen: Seen
) -> None:
    """The baseline of the checks above, by the same counting: 5, and 3 where the counts come back on the host."""
    for rank in finished(report_of(run)).ranks:
        steps = rank.serving_steps()
        assert steps
        assert {len(step.metadata_collectives) for step in steps} == {1}
        assert {len(step.metadata_reads) for step in steps} == {release["reads"]}
    seen(f"{release['reads']} reads a step")


@pytest.mark.defect("D16")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_EAGER], ids=str)
def test_pristine_eager_reduces_the_counts_on_the_hosts_network(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    """vLLM makes what the runner did not: a gloo all-reduce for every forward."""
    for rank in report_of(run).ranks:
        events = [steptrace.Collective.of(event) for event in rank.trace if event["kind"] == "collective"]
        found = Counter(one.device for one in events if one.is_metadata)
        assert found["cpu"] and not found["npu"], dict(found)
    seen("a gloo all-reduce for each forward")
