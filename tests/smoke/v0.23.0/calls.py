# SPDX-License-Identifier: Apache-2.0
"""As upstream_calls.py, for what lies elsewhere or asks for more in this release."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import upstream_calls


def mc2_rows(largest_graph: int) -> int:
    """The most rows of one rank for which a runner whose graphs hold up to ``largest_graph`` takes MC2."""
    from vllm_ascend import ascend_forward_context

    ascend_forward_context.get_ascend_config = lambda: SimpleNamespace(enable_prefill_mc2=False)
    return upstream_calls.mc2_rows(largest_graph, expert_parallel=1)


def drafter_counts(rows: int) -> dict[str, Any]:
    """What a drafter with experts is told on rank 0 of 2 after a step of ``rows`` rows on each: its rows, those of all,
    and how many all-reduces that took."""
    import torch.distributed as dist
    from vllm.distributed import parallel_state
    from vllm_ascend.worker import model_runner_v1

    reduced = []

    def all_reduce(tensor: Any, **_: Any) -> None:
        reduced.append(tensor)
        tensor[0][1] = rows  # rank 1's; the second line is of graphs

    dist.all_reduce = all_reduce
    parallel_state._DP = SimpleNamespace(cpu_group=None)
    model_runner_v1.should_skip_allreduce_across_dp_group = lambda *_: False
    runner = model_runner_v1.NPUModelRunner.__new__(model_runner_v1.NPUModelRunner)
    runner.dp_size, runner.dp_rank, runner.pcp_size = 2, 0, 1
    runner.vllm_config = SimpleNamespace(speculative_config=SimpleNamespace(method="mtp"))
    runner.ascend_config = SimpleNamespace(dp_allreduce_on_npu=False)
    runner.drafter = SimpleNamespace(needs_extra_input_slots=False)
    with suppress(ModuleNotFoundError):
        from vllm_ascend.data_parallel import release, upstream
        from vllm_ascend.data_parallel import runner as ours
        from vllm_ascend.data_parallel.metadata import StepMetadata
        from vllm_ascend.data_parallel.plan import StepPlan

        upstream.row_group_sizes = lambda *_: {}
        ours.should_skip_allreduce_across_dp_group = lambda *_: False
        release.is_drafter_moe_model = lambda *_: True
        runner.step = StepPlan(StepMetadata((rows, rows), False, False, False), 0)
    own, of_all, _ = runner._sync_metadata_across_dp(rows, is_draft_model=True)
    return {"rows": int(own), "of_all": of_all.tolist(), "reductions": len(reduced)}


def loads_counted(stage: str, rows: list[int], threshold: int) -> list[bool]:
    """By rank: whether it counts a step's loads of experts in which ranks compute ``rows``."""
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    counted = []
    for own in rows:
        runner = NPUModelRunner.__new__(NPUModelRunner)
        runner.dp_size, runner.eplb_heat_collection_stage, runner.eplb_pd_thresholds = len(rows), stage, threshold
        if hasattr(NPUModelRunner, "most_rows"):
            runner.most_tokens = max(rows)
        runner.update_eplb_heat_collection_status(own)
        counted.append(runner.eplb_heat_collection_status)
    return counted


def draft_after_a_step(prefill: bool, context_parallel: int, exchanges: bool) -> dict[str, Any]:
    """As there, by Step-3.5's drafter: the common one was mended (#12036)."""
    return upstream_calls.draft_after_a_step(
        prefill,
        context_parallel,
        exchanges,
        proposer="step3p5.AscendStep3p5MTPProposer",
        _enable_probabilistic_draft_probs=False,
    )
