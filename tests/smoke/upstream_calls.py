# SPDX-License-Identifier: Apache-2.0
"""Functions of the vllm_ascend on the import path, called with plain settings and no engine: ``main(job.json)``.

The job names a ``function`` of this module and its ``arguments``; the result goes to answer.json beside it. What a
function of upstream reads from its surroundings (process groups, configuration) is set to the settings in question;
what it does with them is upstream's, or the patches'.
"""

import importlib.util
import inspect
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import merged_draft


def torchair_graph_sizes(
    max_num_seqs: int,
    tokens_per_req: int,
    max_num_batched_tokens: int,
    tensor_parallel: int,
    expert_parallel: bool,
) -> dict[str, Any]:
    """The sizes that the TorchAir runner derives, and what it pads its largest decode batch to.

    ``{"sizes": [..], "largest": n, "padded": n or null, "requests": [runner's, scheduler's], "error": message or
    null}``; ``sizes`` is null where the runner refuses the settings before it serves.
    """
    from vllm_ascend.torchair.torchair_model_runner import NPUTorchairModelRunner

    _surroundings(tensor_parallel, tensor_parallel if expert_parallel else 1, torchair=True)
    parallel = SimpleNamespace(tensor_parallel_size=tensor_parallel, enable_expert_parallel=expert_parallel)
    scheduler = SimpleNamespace(max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=max_num_seqs)
    runner = NPUTorchairModelRunner.__new__(NPUTorchairModelRunner)
    runner.torchair_graph_batch_sizes = []
    runner.max_num_reqs = max_num_seqs
    runner.decode_token_per_req = tokens_per_req
    runner.parallel_config, runner.scheduler_config, runner.speculative_config = parallel, scheduler, None
    runner.is_kv_consumer = False
    runner.vllm_config = SimpleNamespace(
        parallel_config=parallel,
        scheduler_config=scheduler,
        model_config=SimpleNamespace(hf_config=_experts()),
        compilation_config=_compilation(),
        kv_transfer_config=None,
    )
    runner.mc2_tokens_capacity = max_num_batched_tokens
    largest = min(max_num_seqs * tokens_per_req, max_num_batched_tokens // tokens_per_req * tokens_per_req)
    answer = {"sizes": None, "largest": largest, "padded": None, "requests": None, "error": None}
    try:
        _method(runner, "check_torchair_graph_batch_sizes", "update_torchair_graph_batch_sizes")()
        answer["sizes"] = list(runner.torchair_graph_batch_sizes)
        answer["requests"] = [runner.max_num_reqs, scheduler.max_num_seqs]
        answer["padded"] = runner.select_torchair_padded_batch_size(largest)
    except (ValueError, IndexError) as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    return answer


def forward_context(num_tokens: list[int], mask: int, expert_parallel: int) -> list[dict[str, Any]]:
    """What a decode of each of ``num_tokens`` rows is told, given an MC2 mask of ``mask`` rows, at tp 1 and dp 1.

    ``[{"rows": padded rows, "mask": rows of its MC2 mask, "custom": fused-MoE state, "generic": method}, ..]``;
    ``generic`` is null in a release whose generic layers have no choice.
    """
    import torch
    from vllm.forward_context import get_forward_context
    from vllm_ascend.ascend_forward_context import set_ascend_forward_context

    _surroundings(1, expert_parallel, torchair=False)
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(
            data_parallel_size=1, enable_expert_parallel=expert_parallel > 1, tensor_parallel_size=1
        ),
        compilation_config=_compilation(),
        quant_config=None,
        model_config=SimpleNamespace(hf_config=_experts()),
    )
    answers = []
    for count in num_tokens:
        arguments: dict[str, Any] = {"num_tokens": count, "with_prefill": False, "num_actual_tokens": count}
        parameters = inspect.signature(set_ascend_forward_context).parameters
        if "reserved_mc2_mask" in parameters:
            arguments["reserved_mc2_mask"] = torch.zeros(mask, dtype=torch.bool)
        refused = None
        for name in parameters.keys() & {"moe_comm_method", "moe_comm_type"} if _is_pristine() else ():
            choice = _runners_choice(count, mask, expert_parallel)
            if name == "moe_comm_type" and isinstance(choice, str):
                refused = choice  # the runner raises
            else:
                arguments[name] = choice
        with set_ascend_forward_context(None, config, **arguments):
            context = get_forward_context()
            answers.append(
                {
                    "rows": context.padded_num_tokens,
                    "mask": None if context.mc2_mask is None else len(context.mc2_mask),
                    "custom": context.fused_moe_state.name,
                    "generic": refused or _generic(context),
                }
            )
    return answers


def _is_pristine() -> bool:
    """Whether the runner of this tree hands its choice on, as upstream's does."""
    return importlib.util.find_spec("vllm_ascend.data_parallel") is None


def _method(owner: Any, *names: str) -> Any:
    """The method that a release has under one of these names."""
    return next(getattr(owner, name) for name in names if hasattr(owner, name))


def _generic(context: Any) -> str | None:
    """The method that generic layers take, by the name that both of upstream's ways to say it have in common; None
    where they have no choice."""
    if hasattr(context, "moe_comm_type"):
        return str(context.moe_comm_type.name.lower())
    name = getattr(context, "moe_comm_method_name", None)
    return name and str(name.removesuffix("commimpl"))


def _compilation() -> Any:
    """Of vLLM's compilation what is asked for."""
    return SimpleNamespace(static_forward_context={}, pass_config=SimpleNamespace(enable_sequence_parallelism=False))


def _experts() -> Any:
    """Of a model's configuration what says that it has experts."""
    return SimpleNamespace(model_type="qwen3_moe", to_dict=lambda: {"num_experts": 16})


def mc2_rows(largest_graph: int, expert_parallel: int) -> int:
    """The most rows of one rank for which a runner whose graphs hold up to ``largest_graph`` takes MC2, at tp 1."""
    from vllm_ascend import ascend_forward_context

    if hasattr(ascend_forward_context, "set_mc2_tokens_capacity"):
        config = SimpleNamespace(
            compilation_config=SimpleNamespace(
                cudagraph_capture_sizes=[largest_graph], max_cudagraph_capture_size=largest_graph
            ),
            parallel_config=SimpleNamespace(tensor_parallel_size=1),
        )
        ascend_forward_context.set_mc2_tokens_capacity(config, 1, 1)
        return int(ascend_forward_context.get_mc2_tokens_capacity())
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    _surroundings(1, expert_parallel, torchair=False)
    runner = NPUModelRunner.__new__(NPUModelRunner)
    runner.compilation_config = SimpleNamespace(cudagraph_capture_sizes=[largest_graph, 1])
    runner.parallel_config = SimpleNamespace(tensor_parallel_size=1)
    runner.model_config = None
    # What follows the capacity in the same method is about images.
    with suppress(AttributeError):
        runner._init_mc2_tokens_capacity()
    counts = list(range(1, 2 * largest_graph))
    found = forward_context(counts, runner.mc2_tokens_capacity, expert_parallel)
    return max(count for count, one in zip(counts, found, strict=True) if one["generic"] == "mc2")


def _runners_choice(num_tokens: int, mc2_capacity: int, expert_parallel: int) -> Any:
    """What the pristine runner hands to the forward context; a text where it raises."""
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    runner = NPUModelRunner.__new__(NPUModelRunner)
    runner.mc2_tokens_capacity = mc2_capacity
    runner.parallel_config = SimpleNamespace(
        enable_expert_parallel=expert_parallel > 1, world_size_across_dp=expert_parallel
    )
    runner.vllm_config = SimpleNamespace(model_config=SimpleNamespace(hf_config=_experts()))
    decode = (False,) if "with_prefill" in inspect.signature(runner._select_moe_comm_method).parameters else ()
    try:
        return runner._select_moe_comm_method(num_tokens, *decode)
    except ValueError as error:
        return f"ValueError: {error}"


def drafter_counts(rows: int) -> dict[str, Any]:
    """What a drafter with experts is told on rank 0 of 2 after a step of ``rows`` rows on each: its rows, those of all,
    and how many all-reduces that took."""
    import torch
    import torch.distributed as dist
    from vllm.distributed import parallel_state
    from vllm_ascend.worker import model_runner_v1

    reduced = []

    def all_reduce(tensor: Any, **_: Any) -> None:
        reduced.append(tensor)
        tensor[1] = rows  # rank 1's

    dist.all_reduce = all_reduce
    parallel_state._DP = SimpleNamespace(cpu_group=None)
    modules = [model_runner_v1]
    runner = model_runner_v1.NPUModelRunner.__new__(model_runner_v1.NPUModelRunner)
    runner.dp_size, runner.dp_rank, runner.vllm_config, runner.pcp_size = 2, 0, None, 1
    runner.drafter = SimpleNamespace(needs_extra_input_slots=False)
    with suppress(ModuleNotFoundError):
        from vllm_ascend.data_parallel import release, upstream
        from vllm_ascend.data_parallel import runner as ours
        from vllm_ascend.data_parallel.metadata import StepMetadata
        from vllm_ascend.data_parallel.plan import StepPlan

        upstream.row_group_sizes = dict
        release.is_drafter_moe_model = lambda *_: True
        runner.step = StepPlan(StepMetadata((rows, rows), False, False, False), 0)
        modules.append(ours)
    for module in modules:
        module.should_skip_allreduce_across_dp_group = lambda *_: False
    own, of_all, _ = runner._sync_metadata_across_dp(rows, is_draft_model=True)
    assert isinstance(of_all, torch.Tensor)
    return {"rows": int(own), "of_all": of_all.tolist(), "reductions": len(reduced)}


def draft_after_a_step(prefill: bool, context_parallel: int, exchanges: bool, **of_set: Any) -> dict[str, Any]:
    """Three drafts of two requests by the MTP drafter, whose model is one that answers with the forward's number.

    ``{"forwards": n, "attending": how many of them have metadata, "drafts": [[ids] of each request]}``. ``exchanges``
    says whether a draft exchanges rows with other DP ranks; ``of_set`` is what the drafter of a release is besides.
    """
    attending: list[bool] = []

    def forward(_rows: int, attends: bool) -> int:
        attending.append(attends)
        return len(attending)

    found = merged_draft.run(
        6,
        [2, 5],
        forward,
        attended=1 if prefill and context_parallel > 1 else merged_draft.DRAFTS,
        prefill=prefill,
        method="mtp",
        runner=SimpleNamespace(
            draft_exchanges=exchanges, input_batch=SimpleNamespace(sampling_metadata=SimpleNamespace(all_greedy=True))
        ),
        dcp_size=context_parallel,
        **of_set,
    )
    return {"forwards": len(attending), "attending": sum(attending), "drafts": found.tolist()}


def layer_groups(dp_size: int, stages: int, tensor_parallel: int, size: int) -> dict[str, list[list[int]]]:
    """Ranks of each group of layers that are split or exchange rows over DP ranks, ``size`` of them where it is set."""
    import torch
    from vllm_ascend.distributed import parallel_state

    from vllm_ascend import ascend_config

    os.environ["VLLM_ASCEND_ENABLE_MLP_OPTIMIZE"] = "1"
    split = {f"{layer}_tensor_parallel_size": size for layer in ("embedding", "mlp", "oproj", "lmhead")}
    ascend_config._ASCEND_CONFIG = SimpleNamespace(
        **split,
        **dict.fromkeys(("pd_tp_ratio", "pd_head_ratio"), 1),
        **dict.fromkeys(("enable_flashcomm2_parallel_size", "multistream_overlap_gate"), 0),
        layer_sharding=None,
        eplb_config=SimpleNamespace(dynamic_eplb=False),
        finegrained_tp_config=SimpleNamespace(**split),
    )
    ascend_config._is_ascend_config_initialized = lambda _: True  # where a release asks
    torch.distributed.is_initialized = lambda: True
    torch.distributed.get_world_size = lambda: dp_size * stages * tensor_parallel
    torch.distributed.get_backend = lambda _: "gloo"
    parallel_state.get_world_group = lambda: SimpleNamespace(local_rank=0, device_group=None)
    found: dict[str, list[list[int]]] = {}
    parallel_state.init_model_parallel_group = lambda ranks, *_, group_name: found.update({group_name: ranks})
    parallel_state.init_ascend_model_parallel(
        SimpleNamespace(
            data_parallel_size=dp_size,
            pipeline_parallel_size=stages,
            tensor_parallel_size=tensor_parallel,
            prefill_context_parallel_size=1,
        )
    )
    return found


def _surroundings(tensor_parallel: int, expert_parallel: int, *, torchair: bool) -> None:
    """Process groups of these sizes, and the parts of vllm-ascend's configuration that are asked for."""
    from vllm.distributed import parallel_state

    from vllm_ascend import ascend_config, utils

    for name, size in (("_TP", tensor_parallel), ("_EP", expert_parallel), ("_DP", 1)):
        group = SimpleNamespace(world_size=size, rank_in_group=0, is_first_rank=False)
        setattr(parallel_state, name, group)
    parallel_state._WORLD = SimpleNamespace(rank=0, is_first_rank=False)
    ascend_config._ASCEND_CONFIG = SimpleNamespace(
        torchair_graph_config=SimpleNamespace(enabled=torchair),
        lmhead_tensor_parallel_size=None,
        enable_shared_expert_dp=False,
    )
    utils.init_ascend_soc_version()


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    answer = globals()[job["function"]](**job["arguments"])
    Path("answer.json").write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)
