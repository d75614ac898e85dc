# SPDX-License-Identifier: Apache-2.0
"""The communication of mixtures of experts: what ranks choose, what the profile runs, and what is left behind."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import engine_runs
import pytest
from checkpoints import Model
from engine import Outcome, Report, finished
from job import SOC_310P, EngineRun, Mode, Tree
from reference import TOKENS

pytestmark = pytest.mark.standin

ReportOf = Callable[[EngineRun], Report]
Expected = Callable[[Model], dict[int, list[int]]]
Ask = Callable[..., Any]
Seen = Callable[[str], None]

# Rows of one rank that MC2's kernel takes on an A2, which the stand-in plays.
KERNEL_ROWS = 256
SIXTEEN = 16


def _layers(report: Report, *, profile: bool) -> list[list[Mapping[str, Any]]]:
    """By rank: what the probe said of each layer, in the profile run or after it."""
    return [
        [line for line in rank.lines if "moe" in line and line["profile"] is profile and not line["capturing"]]
        for rank in report.ranks
    ]


def _methods(layers: Iterable[Mapping[str, Any]]) -> set[str]:
    return {layer["method"] for layer in layers}


@pytest.mark.defect("D1")
@pytest.mark.parametrize("run", [engine_runs.EP16], ids=str)
def test_sixteen_ranks_choose_alike(
    report_of: ReportOf, expected: Expected, run: EngineRun, release: Mapping[str, Any]
) -> None:
    """One prefills, one decodes, fourteen idle: the same method in every layer, and the right tokens."""
    report = finished(report_of(run))
    first, *others = ([layer["method"] for layer in rank] for rank in _layers(report, profile=False))
    assert set(first) == {release["prefill_over_16"], "MC2"}
    assert all(other == first for other in others)
    want = expected(run.model)
    for turn in run.rounds:
        asked = {index: want[index] for rank in range(run.dp_size) for index in turn.asked(rank)}
        assert report.tokens(turn.name) == asked, turn.name


@pytest.mark.defect("D14")
@pytest.mark.parametrize("run", [engine_runs.EP16], ids=str)
def test_sixteen_ranks_compute_their_own_rows(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """Neither an all-to-all nor a multicast needs padding: beside a prefill, a rank that decodes or idles computes one
    row."""
    beside = [max(layer["rows"] for layer in rank) for rank in _layers(finished(report_of(run)), profile=False)]
    assert beside == [5, 150] + [1] * (SIXTEEN - 2)
    seen("1 row beside 150")


@pytest.mark.defect("D10")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_EP16], ids=str)
def test_pristine_profile_leaves_mc2_out(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """Its decode steps run MC2 (a rank waits in it, see test_regression), which its profile has not."""
    report = report_of(run)
    for rank in _layers(report, profile=True):
        assert _methods(rank) == {"All2All"}
    assert any(event.get("op") == "mc2_dispatch" for rank in report.ranks for event in rank.trace), str(report)
    seen("profiles All2All alone, serves with MC2 too")


@pytest.mark.defect("D10")
@pytest.mark.parametrize("run", [engine_runs.EP16], ids=str)
def test_profile_runs_what_serving_runs(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """Every method that serving used, at no fewer rows than serving had."""
    report = finished(report_of(run))
    for profiled, served in zip(_layers(report, profile=True), _layers(report, profile=False), strict=True):
        assert _methods(profiled) >= _methods(served)
        for method in _methods(served):
            rows = [max(one["rows"] for one in layers if one["method"] == method) for layers in (profiled, served)]
            assert rows[0] >= rows[1], method
    seen(f"profiles {' and '.join(sorted(_methods(_layers(report, profile=True)[0])))}")


def _busiest_share(report: Report) -> float:
    """Of the rows that the profile run routes, the share that the two busiest experts of a layer get; the largest."""
    histograms = [layer["experts"] for rank in _layers(report, profile=True) for layer in rank]
    assert histograms
    return max(sum(sorted(one)[-2:]) / sum(one) for one in histograms)


@pytest.mark.defect("D11")
@pytest.mark.parametrize("run", engine_runs.PRISTINE_GRAPHS, ids=str)
def test_pristine_profile_routes_every_row_alike(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """With two experts a token, all rows of equal tokens go to the same two."""
    share = _busiest_share(report_of(run))
    assert share == 1.0
    seen("all rows to 2 of 16 experts")


@pytest.mark.defect("D11")
@pytest.mark.parametrize("run", [engine_runs.GRAPH], ids=str)
def test_profile_spreads_its_rows(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """As serving would: no two experts get most of them."""
    share = _busiest_share(finished(report_of(run)))
    assert share < 0.5
    seen(f"the 2 busiest of 16 experts get {share:.0%}")


@pytest.mark.defect("D12")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_GRAPH, engine_runs.PRISTINE_EP16], ids=str)
def test_pristine_keeps_tensors_of_a_layer(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """Held by a communication object after the layer's forward has returned."""
    _outlive_their_layer(report_of, run, seen)


@pytest.mark.defect("D12")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_SEQ_EP], ids=str)
def test_pristine_sequential_all_to_all_keeps_tensors_of_a_layer(
    report_of: ReportOf, run: EngineRun, seen: Seen
) -> None:
    _outlive_their_layer(report_of, run, seen)


def _outlive_their_layer(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    layers = [layer for profile in (True, False) for rank in _layers(report_of(run), profile=profile) for layer in rank]
    kept = [name for layer in layers for name in layer["kept"]]
    assert kept
    seen(f"{' and '.join(sorted(set(kept)))} outlive their layer")


@pytest.mark.defect("D12")
@pytest.mark.parametrize("run", [engine_runs.GRAPH, engine_runs.EP16, engine_runs.SEQ_EP], ids=str)
def test_no_tensor_outlives_its_layer(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    report = finished(report_of(run))
    layers = [layer for profile in (True, False) for rank in _layers(report, profile=profile) for layer in rank]
    assert layers
    assert not [layer for layer in layers if layer["kept"]]
    seen("none")


def _mask(report: Report) -> int | None:
    """Rows of the MC2 mask that the runner of the first rank has."""
    ready: int | None = next(line["mc2_mask"] for line in report.ranks[0].lines if "ready" in line)
    return ready


@pytest.mark.defect("D7")
@pytest.mark.parametrize("run", engine_runs.PRISTINE_GRAPHS, ids=str)
def test_pristine_runs_mc2_beyond_its_mask(report_of: ReportOf, ask: Ask, run: EngineRun, seen: Seen) -> None:
    """And beyond the rows that its kernel takes, which are fewer still on an A2."""
    mask = _mask(report_of(run))
    (found,) = ask(Tree.PRISTINE, "forward_context", num_tokens=[600], mask=mask, expert_parallel=SIXTEEN)
    assert found["custom"] == "MC2"
    assert found["rows"] == 600 > KERNEL_ROWS
    if mask is None:  # each step makes its own
        assert found["mask"] == 600
        seen("MC2 for 600 rows, where its kernel takes 256")
    else:
        assert found["mask"] == mask == 512 > KERNEL_ROWS
        seen("MC2 for 600 rows with a mask of 512")


@pytest.mark.defect("D7")
@pytest.mark.parametrize("run", [engine_runs.GRAPH], ids=str)
def test_mc2_ends_where_its_mask_and_kernel_do(
    report_of: ReportOf, ask: Ask, run: EngineRun, release: Mapping[str, Any], seen: Seen
) -> None:
    """One number: the rows of the mask, and the most for which either family takes MC2; at most those of the kernel."""
    mask = _mask(report_of(run))
    counts = list(range(1, 1101))
    found = ask(Tree.PATCHED, "forward_context", num_tokens=counts, mask=mask, expert_parallel=SIXTEEN)
    assert [count for count, one in zip(counts, found, strict=True) if one["custom"] == "MC2"][-1] == mask
    if found[0]["generic"] is not None:
        assert [count for count, one in zip(counts, found, strict=True) if one["generic"] == "mc2"][-1] == mask
    assert mask == release["mc2_rows"] <= KERNEL_ROWS
    mc2 = [one for one in found if one["custom"] == "MC2" or one["generic"] == "mc2"]
    assert all(one["mask"] == one["rows"] for one in mc2)
    seen(f"MC2 up to {mask} rows, as its mask and kernel")


@pytest.mark.defect("D7")
@pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)
def test_mc2_and_a_graph_larger_than_its_kernel(ask: Ask, tree: Tree, seen: Seen) -> None:
    """Where MC2's capacity follows the largest graph: the kernel's rows must bound it."""
    rows = ask(tree, "mc2_rows", largest_graph=2 * KERNEL_ROWS, expert_parallel=SIXTEEN)
    assert rows == (2 * KERNEL_ROWS if tree is Tree.PRISTINE else KERNEL_ROWS)
    seen(f"MC2 up to {rows} rows for a graph of {2 * KERNEL_ROWS}, its kernel takes {KERNEL_ROWS}")


@pytest.mark.defect("D2")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_310P_DENSE], ids=str)
def test_pristine_310p_does_not_start(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """A dense model, one rank: the chooser of MoE methods is asked all the same."""
    report = report_of(run)
    assert report.outcome is Outcome.ERROR, str(report)
    assert not report.ready, str(report)
    assert "ValueError: Unsupported soc_version" in report.ranks[0].log_tail, str(report)
    seen("dies at start with ValueError")


@pytest.mark.defect("D2")
@pytest.mark.parametrize("run", [engine_runs.SOC_310P_DENSE], ids=str)
def test_310p_serves_dense_models(report_of: ReportOf, expected: Expected, run: EngineRun, seen: Seen) -> None:
    """In float16, the only type of its activation."""
    report, want = finished(report_of(run)), expected(run.model)
    for turn in run.rounds:
        assert report.tokens(turn.name) == {index: want[index] for index in turn.asked(0)}, turn.name
    seen("serves")


@pytest.mark.defect("D2")
@pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)
def test_310p_gathers_for_experts(ask: Ask, tree: Tree, seen: Seen) -> None:
    """It has no MC2, whatever the number of ranks: all-gather, at any size. Pristine tries MC2 where it is small, or
    raises."""
    small, large = ask(tree, "forward_context", SOC_310P, num_tokens=[8, 600], mask=512, expert_parallel=SIXTEEN)
    if tree is Tree.PRISTINE:
        refuses = "ValueError: Unsupported soc_version"
        assert large["generic"].startswith(refuses)
        assert small["generic"] == "mc2" or small["generic"].startswith(refuses)
        seen(f"experts: {'MC2' if small['generic'] == 'mc2' else 'ValueError'} for 8 rows, ValueError for 600")
    elif small["generic"] is None:  # its layers have no choice
        assert small["custom"] == large["custom"] == "All2All"
        seen("experts: no MC2")
    else:
        assert small["generic"] == large["generic"] == "allgather"
        seen("experts: all-gather")


def _steps(report: Report, turn: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The forward passes of a round, of both ranks side by side."""
    first, second = (rank.forwards(turn) for rank in report.ranks)
    return list(zip(first, second, strict=True))


@pytest.mark.defect("D4")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_GRAPH], ids=str)
def test_pristine_idle_rank_runs_eager(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    modes = {(busy["graph"], idle["graph"]) for busy, idle in _steps(finished(report_of(run)), "one prompt")}
    assert modes == {("PIECEWISE", "NONE")}
    seen("idle rank eager beside a graph")


@pytest.mark.defect("D4")
@pytest.mark.parametrize("run", [engine_runs.GRAPH, engine_runs.GRAPH_EP], ids=str)
def test_idle_rank_replays_when_busy_ranks_do(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    """In every round both do the same; a graph for every step but the prefills that are too long for one."""
    report = finished(report_of(run))
    modes = {turn.name: [(a["graph"], b["graph"]) for a, b in _steps(report, turn.name)] for turn in run.rounds}
    assert all(one == other for pairs in modes.values() for one, other in pairs)
    assert modes["one prompt"] == [("PIECEWISE", "PIECEWISE")] * TOKENS
    assert ("NONE", "NONE") in modes["prefill beside a decode"]
    seen("idle rank replays")


def _rows_beside_a_prefill(report: Report) -> int:
    """Rows that a decoding rank computes in the step in which the other prefills 150 tokens."""
    assert report.run.mode is Mode.ACL_GRAPH
    (rows,) = (
        decoding["rows"]
        for decoding, prefilling in _steps(finished(report), "prefill beside a decode")
        if decoding["attention"] == "DecodeOnly" and prefilling["attention"] == "PrefillNoCache"
    )
    return int(rows)


@pytest.mark.defect("D14")
@pytest.mark.parametrize("run", [engine_runs.PRISTINE_GRAPH], ids=str)
def test_pristine_decode_computes_the_rows_of_a_prefill(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    assert _rows_beside_a_prefill(report_of(run)) == 150
    seen("a decode of 1 token computes 150 rows")


@pytest.mark.defect("D14")
@pytest.mark.parametrize("run", [engine_runs.GRAPH, engine_runs.GRAPH_EP], ids=str)
def test_decode_computes_its_own_rows(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    assert _rows_beside_a_prefill(report_of(run)) == 1
    seen("1 row beside 150")
