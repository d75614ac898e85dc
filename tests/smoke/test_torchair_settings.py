# SPDX-License-Identifier: Apache-2.0
"""The TorchAir runner: its graph sizes, its multicast, and what was left over in it."""

import ast
from collections.abc import Callable
from typing import Any

import engine_runs
import pytest
from conftest import Bench
from engine import Report
from job import SOC_A3, EngineRun, Tree

Ask = Callable[..., dict[str, Any]]
Seen = Callable[[str], None]

# On an A3, since 0.10.2 the only one that rounds. Rounding to the tensor-parallel size makes 32 of 30, which no buffer
# of 30 tokens holds.
ROUNDED_OVER_TOKENS = {
    "max_num_seqs": 30,
    "tokens_per_req": 1,
    "max_num_batched_tokens": 30,
    "tensor_parallel": 4,
    "expert_parallel": True,
}
# 24 requests of two tokens each, of which a step takes 24.
MORE_THAN_A_STEP = {
    "max_num_seqs": 24,
    "tokens_per_req": 2,
    "max_num_batched_tokens": 24,
    "tensor_parallel": 1,
    "expert_parallel": False,
}
# Rounding makes 16 of 13, and the buffers of requests hold 13.
ROUNDED_OVER_REQUESTS = {
    "max_num_seqs": 13,
    "tokens_per_req": 1,
    "max_num_batched_tokens": 1024,
    "tensor_parallel": 8,
    "expert_parallel": True,
}
POSSIBLE = {**ROUNDED_OVER_TOKENS, "max_num_seqs": 32, "max_num_batched_tokens": 32}

stands_in = pytest.mark.standin


@stands_in
@pytest.mark.defect("D6a", tree=Tree.PRISTINE)
def test_pristine_drops_the_largest_graph(ask: Ask, seen: Seen) -> None:
    """It starts, and the first large decode is an error."""
    found = ask(Tree.PRISTINE, "torchair_graph_sizes", SOC_A3, **ROUNDED_OVER_TOKENS)
    assert found["sizes"] == [4]
    assert found["largest"] == 30
    assert found["padded"] is None
    assert found["error"].startswith("ValueError: cur batch_size is invalid")
    seen("sizes [4] for 30 requests, raises ValueError when serving")


@stands_in
@pytest.mark.defect("D6b", tree=Tree.PRISTINE)
def test_pristine_graph_exceeds_the_token_buffers(ask: Ask, seen: Seen) -> None:
    found = ask(Tree.PRISTINE, "torchair_graph_sizes", SOC_A3, **MORE_THAN_A_STEP)
    assert found["sizes"] == [2, 48]
    assert found["padded"] == 48 > MORE_THAN_A_STEP["max_num_batched_tokens"]
    seen("a graph of 48 tokens for buffers of 24")


@stands_in
@pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)
def test_a_graph_of_more_requests_is_served_where_upstream_pads_them(ask: Ask, tree: Tree) -> None:
    """Since #2719: the sizes, and the requests of a dummy batch, are upstream's."""
    found = ask(tree, "torchair_graph_sizes", SOC_A3, **ROUNDED_OVER_REQUESTS)
    assert (found["error"], found["padded"], found["requests"]) == (None, 16, [16, 16])


@stands_in
@pytest.mark.defect("D6c", tree=Tree.PRISTINE)
def test_pristine_graph_exceeds_the_request_buffers(ask: Ask, seen: Seen) -> None:
    found = ask(Tree.PRISTINE, "torchair_graph_sizes", SOC_A3, **ROUNDED_OVER_REQUESTS)
    assert found["padded"] == found["sizes"][-1] == 16 > ROUNDED_OVER_REQUESTS["max_num_seqs"]
    seen("a graph of 16 requests for buffers of 13")


def _refused(ask: Ask, option: str, settings: dict[str, Any]) -> None:
    """The message names the option to change."""
    found = ask(Tree.PATCHED, "torchair_graph_sizes", SOC_A3, **settings)
    assert found["sizes"] is None
    assert found["error"].startswith("ValueError: ")
    assert f"{option} to " in found["error"]


@stands_in
@pytest.mark.defect("D6a", tree=Tree.PATCHED)
def test_more_tokens_than_the_buffers_hold_are_refused_at_start(ask: Ask, seen: Seen) -> None:
    _refused(ask, "max_num_batched_tokens", ROUNDED_OVER_TOKENS)
    seen("refused at start, naming max_num_batched_tokens")


@stands_in
@pytest.mark.defect("D6c", tree=Tree.PATCHED)
def test_more_requests_than_the_buffers_hold_are_refused_at_start(ask: Ask, seen: Seen) -> None:
    _refused(ask, "max_num_seqs", ROUNDED_OVER_REQUESTS)
    seen("refused at start, naming max_num_seqs")


@stands_in
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(POSSIBLE, marks=pytest.mark.defect("D6a", tree=Tree.PATCHED)),
        pytest.param(MORE_THAN_A_STEP, marks=pytest.mark.defect("D6b", tree=Tree.PATCHED)),
    ],
    ids=["tokens", "step"],
)
def test_the_largest_decode_has_a_graph_within_the_buffers(ask: Ask, seen: Seen, settings: Any) -> None:
    found = ask(Tree.PATCHED, "torchair_graph_sizes", SOC_A3, **settings)
    assert found["error"] is None
    assert found["largest"] <= found["padded"] <= settings["max_num_batched_tokens"]
    seen(f"a graph of {found['padded']} tokens for decodes of {found['largest']}")


def _multicast_reads(report: Report) -> list[int]:
    """By rank: reads of the device in the naive multicast of the prefill of the first round."""
    assert report.ready, str(report)
    found = []
    for rank in report.ranks:
        events = [event for event in rank.trace if event["t"] >= rank.begin]
        assert any(event["kind"] == "collective" and event["op"] == "broadcast" for event in events), str(report)
        found.append(sum(event["kind"] == "host_read" and event["func"] == "naive_multicast" for event in events))
    return found


@stands_in
@pytest.mark.defect("D15")
@pytest.mark.parametrize(
    "run",
    [engine_runs.PRISTINE_KV_BOTH, engine_runs.PRISTINE_KV_BOTH_EAGER, engine_runs.PRISTINE_TORCHAIR_DEEPSEEK],
    ids=str,
)
def test_pristine_multicast_reads_the_device(
    report_of: Callable[[EngineRun], Report], run: EngineRun, seen: Seen
) -> None:
    """Twice for each of its slices, in every layer of a prefill; this engine run's first step is one."""
    reads = _multicast_reads(report_of(run))
    assert all(count > 0 for count in reads)
    seen(f"{reads[0]} reads in a prefill of 2 layers")


@stands_in
@pytest.mark.defect("D15")
@pytest.mark.parametrize("run", [engine_runs.TORCHAIR, engine_runs.TORCHAIR_DEEPSEEK, engine_runs.EAGER], ids=str)
def test_multicast_reads_nothing(report_of: Callable[[EngineRun], Report], run: EngineRun, seen: Seen) -> None:
    assert _multicast_reads(report_of(run)) == [0, 0]
    seen("none")


@pytest.mark.defect("D20")
@pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)
def test_the_padding_that_nobody_calls(bench: Bench, tree: Tree, seen: Seen) -> None:
    """Defined on the pristine tree though no file calls it; gone from the patched one."""
    files = sorted((bench.trees[tree] / "vllm_ascend").rglob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    defined = [one for one in nodes if isinstance(one, ast.FunctionDef) and one.name == "get_dp_padding"]
    used = [one for one in nodes if isinstance(one, ast.Attribute) and one.attr == "get_dp_padding"]
    assert not used
    assert len(defined) == (1 if tree is Tree.PRISTINE else 0)
    seen("defined, never called" if defined else "gone")
