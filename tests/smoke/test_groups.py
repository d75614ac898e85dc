# SPDX-License-Identifier: Apache-2.0
"""Groups over the DP ranks that layers or logprobs of prompts need, and metadata on a 310P: tokens, and no hang."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grouped
import pytest
from checkpoints import Model
from engine import Outcome, Report, finished
from job import EngineRun, Round, Tree
from reference import PROMPTS

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]

# Several times what float16 changes, and a fraction of what another half of the vocabulary does.
_TOLERANCE = 0.05

PATCHED = (
    *(grouped.MLP_EAGER, grouped.MLP_GRAPH, grouped.MLP_EXPERTS),
    *(grouped.PROMPTED, grouped.PROMPTED_GRAPH, grouped.PROMPTED_CHUNKED, grouped.PROMPTED_MTP),
    *(grouped.SOC_310P_CPU, grouped.SOC_310P_DEVICE),
)
PROMPTED = tuple(run for run in PATCHED if run.prompt_logprobs)


@pytest.mark.parametrize("run", PATCHED, ids=str)
def test_tokens_are_those_of_the_model(report_of: ReportOf, asked: Asked, run: EngineRun) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        want = asked(run, turn)
        assert {index: report.tokens(turn.name)[index] for index in want} == want, turn.name


def _holds_its_tokens(report: Report, asked: Asked) -> None:
    for turn in finished(report).run.rounds:
        assert report.tokens(turn.name) == asked(report.run, turn), turn.name


@pytest.mark.parametrize("run", [grouped.PRISTINE_MLP_GRAPH], ids=str)
def test_pristine_serves_a_parallel_mlp_in_graphs(report_of: ReportOf, asked: Asked, run: EngineRun) -> None:
    """So that the patched tree must, too: it is held to the same rounds."""
    assert run.rounds == grouped.MLP_GRAPH.rounds
    _holds_its_tokens(report_of(run), asked)


@pytest.mark.parametrize("run", [grouped.PRISTINE_MLP_EAGER], ids=str)
def test_pristine_serves_a_parallel_mlp_eager(report_of: ReportOf, asked: Asked, run: EngineRun) -> None:
    """Where the release synchronises under enforce_eager."""
    _holds_its_tokens(report_of(run), asked)


@pytest.fixture(scope="session")
def logprobs(checkpoint: Callable[[Model], Path]) -> Callable[[Model], dict[int, list[float]]]:
    """Hugging Face's logprob of each token of a prompt but its first, by prompt index."""

    def logprobs(model: Model) -> dict[int, list[float]]:
        import torch
        from transformers import AutoModelForCausalLM

        net: Any = AutoModelForCausalLM.from_pretrained(checkpoint(model), torch_dtype=torch.float32).eval()
        found = {}
        for index, prompt in enumerate(PROMPTS):
            ids = torch.tensor([prompt])
            with torch.no_grad():
                of_vocabulary = net(ids).logits[0].log_softmax(-1)
            found[index] = of_vocabulary[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        return found

    return logprobs


@pytest.mark.defect("D39")
@pytest.mark.parametrize("run", [grouped.PRISTINE_PROMPTED, grouped.PRISTINE_PROMPTED_EXPERTS], ids=str)
def test_pristine_logprobs_of_a_prompt_wait_for_good(
    report_of: ReportOf, run: EngineRun, seen: Callable[[str], None]
) -> None:
    report = report_of(run)
    assert report.ready and report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(f"logprobs of a prompt on one rank: {report.outcome.value}")


@pytest.mark.defect("D39")
@pytest.mark.parametrize("run", [grouped.PROMPTED_EXPERTS], ids=str)
def test_logprobs_of_prompts_are_refused_where_no_rank_would_join(
    report_of: ReportOf, asked: Asked, run: EngineRun, seen: Callable[[str], None]
) -> None:
    """Each request of one is refused in one sentence, and whatever is asked without them is served meanwhile."""
    report = finished(report_of(run))
    for rank in report.ranks:
        refusals = [line["refused"] for line in rank.lines if "refused" in line]
        assert refusals and all("prompt_logprobs" in words and "lmhead" in words for words in refusals)
    _holds_its_tokens(report, asked)
    seen("logprobs of a prompt: refused")


@pytest.mark.defect("D39")
@pytest.mark.parametrize("run", PROMPTED, ids=str)
def test_logprobs_of_prompts_are_those_of_a_whole_head(
    report_of: ReportOf,
    logprobs: Callable[[Model], dict[int, list[float]]],
    run: EngineRun,
    seen: Callable[[str], None],
) -> None:
    report, want = finished(report_of(run)), logprobs(run.model)
    for turn in run.rounds:
        found = report.prompt_logprobs(turn.name)
        asked = {index for rank in range(run.dp_size) for index in turn.asked(rank)}
        assert found.keys() == asked
        for index in asked:
            assert found[index] == pytest.approx(want[index], abs=_TOLERANCE), (turn.name, index)
    seen("logprobs of a prompt on one rank: right")


@pytest.mark.defect("D1")
@pytest.mark.parametrize("run", [grouped.PRISTINE_MLP_EAGER], ids=str)
def test_pristine_ranks_hand_a_parallel_mlp_their_own_rows(
    report_of: ReportOf, run: EngineRun, seen: Callable[[str], None]
) -> None:
    report = report_of(run)
    assert report.ready and report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(f"a parallel MLP: {report.outcome.value}")


@pytest.mark.defect("D43")
@pytest.mark.standin
@pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)
def test_a_layers_group_is_of_one_stage(ask: Callable[..., Any], tree: Tree, seen: Callable[[str], None]) -> None:
    """Two DP ranks of two stages: each group has both DP ranks' place in one stage."""
    groups = ask(tree, "layer_groups", dp_size=2, stages=2, tensor_parallel=1, size=2)
    wrong = sorted(name for name, ranks in groups.items() if sorted(map(sorted, ranks)) != [[0, 2], [1, 3]])
    assert groups and bool(wrong) == (tree is Tree.PRISTINE)
    seen(f"a group over two stages: {', '.join(wrong)}" if wrong else "groups over the DP ranks of one stage")


@pytest.mark.standin
@pytest.mark.parametrize(("dp_size", "tensor_parallel", "size"), [(2, 1, 2), (4, 1, 2), (2, 2, 2)])
def test_without_stages_groups_are_upstreams(
    ask: Callable[..., Any], dp_size: int, tensor_parallel: int, size: int
) -> None:
    parallel = {"dp_size": dp_size, "stages": 1, "tensor_parallel": tensor_parallel, "size": size}
    pristine, patched = (ask(tree, "layer_groups", **parallel) for tree in Tree)
    assert pristine == patched
