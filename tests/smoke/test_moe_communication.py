# SPDX-License-Identifier: Apache-2.0
"""The communication of mixtures of experts: what ranks choose, what the profile runs, and what is left behind."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lives
import pytest
from checkpoints import Model
from engine import Outcome, Report, finished
from job import SOC_310P, Life, Mode, Tree
from reference import TOKENS

pytestmark = pytest.mark.standin

Live = Callable[[Life], Report]
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
@pytest.mark.parametrize("life", [lives.EP16], ids=str)
def test_sixteen_ranks_choose_alike(live: Live, expected: Expected, life: Life, release: Mapping[str, Any]) -> None:
    """One prefills, one decodes, fourteen idle: the same method in every layer, and the right tokens."""
    report = finished(live(life))
    first, *others = ([layer["method"] for layer in rank] for rank in _layers(report, profile=False))
    assert set(first) == {release["prefill_over_16"], "MC2"}
    assert all(other == first for other in others)
    want = expected(life.model)
    for turn in life.rounds:
        asked = {index: want[index] for rank in range(life.dp_size) for index in turn.asked(rank)}
        assert report.tokens(turn.name) == asked, turn.name


@pytest.mark.defect("D14")
@pytest.mark.parametrize("life", [lives.EP16], ids=str)
def test_sixteen_ranks_compute_their_own_rows(live: Live, life: Life, seen: Seen) -> None:
    """Neither an all-to-all nor a multicast needs padding: beside a prefill, a rank that decodes or idles computes one
    row."""
    beside = [max(layer["rows"] for layer in rank) for rank in _layers(finished(live(life)), profile=False)]
    assert beside == [5, 150] + [1] * (SIXTEEN - 2)
    seen("1 row beside 150")


@pytest.mark.defect("D10")
@pytest.mark.parametrize("life", [lives.PRISTINE_EP16], ids=str)
def test_pristine_profile_leaves_mc2_out(live: Live, life: Life, seen: Seen) -> None:
    """Its decode steps run MC2 (a rank waits in it, see test_regression), which its profile has not."""
    report = live(life)
    for rank in _layers(report, profile=True):
        assert _methods(rank) == {"All2All"}
    assert any(event.get("op") == "mc2_dispatch" for rank in report.ranks for event in rank.trace), str(report)
    seen("profiles All2All alone, serves with MC2 too")


@pytest.mark.defect("D10")
@pytest.mark.parametrize("life", [lives.EP16], ids=str)
def test_profile_runs_what_serving_runs(live: Live, life: Life, seen: Seen) -> None:
    """Every method that serving used, at no fewer rows than serving had."""
    report = finished(live(life))
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
@pytest.mark.parametrize("life", lives.PRISTINE_GRAPHS, ids=str)
def test_pristine_profile_routes_every_row_alike(live: Live, life: Life, seen: Seen) -> None:
    """With two experts a token, all rows of equal tokens go to the same two."""
    share = _busiest_share(live(life))
    assert share == 1.0
    seen("all rows to 2 of 16 experts")


@pytest.mark.defect("D11")
@pytest.mark.parametrize("life", [lives.GRAPH], ids=str)
def test_profile_spreads_its_rows(live: Live, life: Life, seen: Seen) -> None:
    """As serving would: no two experts get most of them."""
    share = _busiest_share(finished(live(life)))
    assert share < 0.5
    seen(f"the 2 busiest of 16 experts get {share:.0%}")


@pytest.mark.defect("D12")
@pytest.mark.parametrize("life", [lives.PRISTINE_GRAPH, lives.PRISTINE_EP16], ids=str)
def test_pristine_keeps_tensors_of_a_layer(live: Live, life: Life, seen: Seen) -> None:
    """Held by a communication object after the layer's forward has returned."""
    _outlive_their_layer(live, life, seen)


@pytest.mark.defect("D12")
@pytest.mark.parametrize("life", [lives.PRISTINE_SEQ_EP], ids=str)
def test_pristine_sequential_all_to_all_keeps_tensors_of_a_layer(live: Live, life: Life, seen: Seen) -> None:
    _outlive_their_layer(live, life, seen)


def _outlive_their_layer(live: Live, life: Life, seen: Seen) -> None:
    layers = [layer for profile in (True, False) for rank in _layers(live(life), profile=profile) for layer in rank]
    kept = [name for layer in layers for name in layer["kept"]]
    assert kept
    seen(f"{' and '.join(sorted(set(kept)))} outlive their layer")


@pytest.mark.defect("D12")
@pytest.mark.parametrize("life", [lives.GRAPH, lives.EP16, lives.SEQ_EP], ids=str)
def test_no_tensor_outlives_its_layer(live: Live, life: Life, seen: Seen) -> None:
    report = finished(live(life))
    layers = [layer for profile in (True, False) for rank in _layers(report, profile=profile) for layer in rank]
    assert layers
    assert not [layer for layer in layers if layer["kept"]]
    seen("none")


def _mask(report: Report) -> int | None:
    """Rows of the MC2 mask that the runner of the first rank has."""
    ready: int | None = next(line["mc2_mask"] for line in report.ranks[0].lines if "ready" in line)
    return ready


@pytest.mark.defect("D7")
@pytest.mark.parametrize("life", lives.PRISTINE_GRAPHS, ids=str)
def test_pristine_runs_mc2_beyond_its_mask(live: Live, ask: Ask, life: Life, seen: Seen) -> None:
    """And beyond the rows that its kernel takes, which are fewer still on an A2."""
    mask = _mask(live(life))
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
@pytest.mark.parametrize("life", [lives.GRAPH], ids=str)
def test_mc2_ends_where_its_mask_and_kernel_do(
    live: Live, ask: Ask, life: Life, release: Mapping[str, Any], seen: Seen
) -> None:
    """One number: the rows of the mask, and the most for which either family takes MC2; at most those of the kernel."""
    mask = _mask(live(life))
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
@pytest.mark.parametrize("life", [lives.PRISTINE_310P_DENSE], ids=str)
def test_pristine_310p_does_not_start(live: Live, life: Life, seen: Seen) -> None:
    """A dense model, one rank: the chooser of MoE methods is asked all the same."""
    report = live(life)
    assert report.outcome is Outcome.ERROR, str(report)
    assert not report.ready, str(report)
    assert "ValueError: Unsupported soc_version" in report.ranks[0].log_tail, str(report)
    seen("dies at start with ValueError")


@pytest.mark.defect("D2")
@pytest.mark.parametrize("life", [lives.SOC_310P_DENSE], ids=str)
def test_310p_serves_dense_models(live: Live, expected: Expected, life: Life, seen: Seen) -> None:
    """In float16, the only type of its activation."""
    report, want = finished(live(life)), expected(life.model)
    for turn in life.rounds:
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
@pytest.mark.parametrize("life", [lives.PRISTINE_GRAPH], ids=str)
def test_pristine_idle_rank_runs_eager(live: Live, life: Life, seen: Seen) -> None:
    modes = {(busy["graph"], idle["graph"]) for busy, idle in _steps(finished(live(life)), "one prompt")}
    assert modes == {("PIECEWISE", "NONE")}
    seen("idle rank eager beside a graph")


@pytest.mark.defect("D4")
@pytest.mark.parametrize("life", [lives.GRAPH, lives.GRAPH_EP], ids=str)
def test_idle_rank_replays_when_busy_ranks_do(live: Live, life: Life, seen: Seen) -> None:
    """In every round both do the same; a graph for every step but the prefills that are too long for one."""
    report = finished(live(life))
    modes = {turn.name: [(a["graph"], b["graph"]) for a, b in _steps(report, turn.name)] for turn in life.rounds}
    assert all(one == other for pairs in modes.values() for one, other in pairs)
    assert modes["one prompt"] == [("PIECEWISE", "PIECEWISE")] * TOKENS
    assert ("NONE", "NONE") in modes["prefill beside a decode"]
    seen("idle rank replays")


def _rows_beside_a_prefill(report: Report) -> int:
    """Rows that a decoding rank computes in the step in which the other prefills 150 tokens."""
    assert report.life.mode is Mode.ACL_GRAPH
    (rows,) = (
        decoding["rows"]
        for decoding, prefilling in _steps(finished(report), "prefill beside a decode")
        if decoding["attention"] == "DecodeOnly" and prefilling["attention"] == "PrefillNoCache"
    )
    return int(rows)


@pytest.mark.defect("D14")
@pytest.mark.parametrize("life", [lives.PRISTINE_GRAPH], ids=str)
def test_pristine_decode_computes_the_rows_of_a_prefill(live: Live, life: Life, seen: Seen) -> None:
    assert _rows_beside_a_prefill(live(life)) == 150
    seen("a decode of 1 token computes 150 rows")


@pytest.mark.defect("D14")
@pytest.mark.parametrize("life", [lives.GRAPH, lives.GRAPH_EP], ids=str)
def test_decode_computes_its_own_rows(live: Live, life: Life, seen: Seen) -> None:
    assert _rows_beside_a_prefill(live(life)) == 1
    seen("1 row beside 150")
