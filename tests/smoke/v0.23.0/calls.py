# SPDX-License-Identifier: Apache-2.0
"""As upstream_calls.py, for what lies elsewhere or asks for more in this release: ``main(job.json)``."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import upstream_calls


def mc2_rows(largest_graph: int) -> int:
    """The most rows of one rank for which a runner whose graphs hold up to ``largest_graph`` takes MC2."""
    from vllm_ascend import ascend_config

    ascend_config._ASCEND_CONFIG = SimpleNamespace(enable_prefill_mc2=False)
    return upstream_calls.mc2_rows(largest_graph, expert_parallel=1)


def drafter_counts(rows: int) -> dict[str, Any]:
    """What a drafter with experts is told: see upstream_calls.py."""
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    NPUModelRunner.ascend_config = SimpleNamespace(dp_allreduce_on_npu=False)
    NPUModelRunner._drafter_exchanges = True
    return upstream_calls.drafter_counts(rows)


def loads_counted(stage: str, rows: list[int], threshold: int) -> list[bool]:
    """By rank: whether it counts a step's loads of experts in which ranks compute ``rows``."""
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    counted = []
    for rank, own in enumerate(rows):
        runner = NPUModelRunner.__new__(NPUModelRunner)
        runner.dp_size, runner.eplb_heat_collection_stage, runner.eplb_pd_thresholds = len(rows), stage, threshold
        if hasattr(NPUModelRunner, "most_rows"):
            from vllm_ascend.data_parallel.metadata import StepMetadata
            from vllm_ascend.data_parallel.plan import StepPlan

            runner.step = StepPlan(StepMetadata(tuple(rows), False, False, False), rank)
        runner.update_eplb_heat_collection_status(own)
        counted.append(runner.eplb_heat_collection_status)
    return counted


def draft_after_a_step(prefill: bool, context_parallel: int, dp_size: int) -> dict[str, Any]:
    """Three drafts of two requests by the MTP drafter, whose model is one that answers with the forward's number.

    ``{"forwards": n, "attending": how many of them have metadata, "drafts": [[ids] of each request]}``. The context is
    that of prefills (PCP).
    """
    import torch
    from vllm_ascend.spec_decode import llm_base_proposer

    rows, requests, drafts, width, vocabulary = 6, 2, 3, 4, 16
    context = SimpleNamespace(moe_layer_index=0, attn_metadata="of the first forward")
    llm_base_proposer.get_forward_context = lambda: context
    llm_base_proposer._EXTRA_CTX = SimpleNamespace()
    llm_base_proposer.lmhead_tp_enable = lambda: False
    llm_base_proposer.get_ascend_config = lambda: SimpleNamespace(enable_reduce_sample=False)
    attending: list[bool] = []

    class Model:
        def __call__(self, **inputs: Any) -> Any:
            attending.append(context.attn_metadata is not None)
            return torch.full((inputs["input_ids"].shape[0], width), float(len(attending)))

        def compute_logits(self, hidden_states: Any) -> Any:
            return torch.nn.functional.one_hot(hidden_states[:, 0].long(), vocabulary).float()

    switches = ("parallel_drafting", "uses_mrope", "use_cuda_graph", "supports_mm_inputs", "_share_mtp_indices")
    drafter = SimpleNamespace(
        model=Model(),
        method="mtp",
        num_speculative_tokens=drafts,
        pcp_size=context_parallel,
        dcp_size=1,
        runner=SimpleNamespace(dp_size=dp_size),
        vllm_config=SimpleNamespace(model_config=SimpleNamespace(max_model_len=64)),
        input_ids=torch.zeros(rows, dtype=torch.int64),
        positions=torch.arange(rows),
        hidden_states=torch.zeros(rows, width),
        arange=torch.arange(rows),
        device="cpu",
        **dict.fromkeys(switches, False),
        pass_hidden_states_to_model=True,
        model_returns_tuple=lambda: False,
        _get_positions=lambda count: drafter.positions[:count],
        _set_positions=lambda count, values: None,
        maybe_pad_and_reduce=lambda states, positions: (states, positions),
        maybe_all_gather_and_unpad=lambda last, positions, states: (last, positions, states),
    )
    found = llm_base_proposer.AscendSpecDecodeBaseProposer._run_merged_draft(
        drafter,
        num_input_tokens=rows,
        batch_size=requests,
        token_indices_to_sample=torch.tensor([2, 5]),
        target_positions=None,
        inputs_embeds=None,
        multi_steps_attn_metadata=["metadata"] * (1 if prefill and context_parallel > 1 else drafts),
        num_tokens=rows,
        is_prefill=prefill,
    )
    return {"forwards": len(attending), "attending": sum(attending), "drafts": found.tolist()}


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    answer = globals()[job["function"]](**job["arguments"])
    Path("answer.json").write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)
