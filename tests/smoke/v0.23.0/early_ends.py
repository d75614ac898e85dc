# SPDX-License-Identifier: Apache-2.0
"""vLLM's scheduler and upstream's runner, without a model: which steps with tokens does the runner end before it has
begun, though the engine counts them as executed?"""

import random
from types import SimpleNamespace
from typing import Any

_BLOCK = 128
_BLOCKS = 7
"""One more than two long requests need: with others beside them, some are preempted."""
_LONGEST = 384
_REQUESTS = 4


class BegunError(Exception):
    """The runner has not ended the step early."""


def steps_with_tokens(checkpoint: str, steps: int, seed: int, asynchronous: bool) -> dict[str, int]:
    """Serves requests that come at random, some of which are aborted and some come again under the same name.

    ``{"begun": steps with tokens that the runner begins, "early": those that it ends early, "empty": steps without
    tokens, "aborted": n, "preempted": n, "resumed": n, "of nobody": whether a step with a token of no request, which no
    scheduler makes, would be ended early}``.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput
    from vllm.v1.request import RequestStatus

    settings = {"max_num_seqs": _REQUESTS, "max_num_batched_tokens": _LONGEST // 2, "max_model_len": _LONGEST}
    config = EngineArgs(
        checkpoint,
        dtype="float32",
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
        enable_chunked_prefill=True,
        async_scheduling=asynchronous,
        block_size=_BLOCK,
        **settings,
    ).create_engine_config()
    scheduler, runner = _scheduler(config), _runner(config)
    dice = random.Random(seed)
    counts = dict.fromkeys(("begun", "early", "empty", "aborted", "preempted", "resumed"), 0)
    for step in range(steps):
        names = list(scheduler.requests)
        free = [f"request {index}" for index in range(2 * _REQUESTS) if f"request {index}" not in names]
        if names and dice.random() < 0.1:
            aborted = dice.choice(names)
            scheduler.finish_requests(aborted, RequestStatus.FINISHED_ABORTED)
            counts["aborted"] += 1
            if dice.random() < 0.5:  # the next step has it among the finished and among the new ones
                free.insert(0, aborted)
                scheduler.add_request(_request(aborted, dice, step))
        elif free and dice.random() < 0.3:
            scheduler.add_request(_request(dice.choice(free), dice, step))
        scheduled = scheduler.schedule()
        counts["preempted"] += len(scheduled.preempted_req_ids or ())
        counts["resumed"] += len(scheduled.scheduled_cached_reqs.resumed_req_ids)
        sampled: Any = EMPTY_MODEL_RUNNER_OUTPUT
        try:
            runner.execute_model(scheduled)
            counts["early" if scheduled.total_num_scheduled_tokens else "empty"] += 1
        except BegunError:
            counts["begun"] += 1
            batch = list(runner.input_batch.req_ids)
            tokens = [_sampled(scheduler.requests.get(name), asynchronous) for name in batch]
            sampled = ModelRunnerOutput(
                batch, {name: index for index, name in enumerate(batch)}, tokens, None, {}, [None] * len(batch)
            )
        scheduler.update_from_output(scheduled, sampled)
    of_nobody = SchedulerOutput.make_empty()
    of_nobody.finished_req_ids, of_nobody.total_num_scheduled_tokens = set(runner.requests), 1
    return counts | {"of nobody": int(runner.execute_model(of_nobody) is EMPTY_MODEL_RUNNER_OUTPUT)}


def _sampled(request: Any, asynchronous: bool) -> list[int]:
    """One token of a request whose prompt is computed."""
    if request is None:
        return []
    placeholders = request.num_output_placeholders if asynchronous else 0
    return [1] if request.num_computed_tokens >= request.num_tokens + placeholders else []


def _request(name: str, dice: random.Random, arrival: int) -> Any:
    from vllm.sampling_params import SamplingParams
    from vllm.v1.request import Request

    prompt, new = dice.randint(1, _LONGEST // 2), dice.randint(1, _LONGEST // 2 - 1)
    sampling = SamplingParams(max_tokens=new, ignore_eos=True, temperature=0.0)
    return Request(name, [1] * prompt, sampling, None, arrival_time=float(arrival))


def _scheduler(config: Any) -> Any:
    """That of the configuration, with few blocks."""
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    config.cache_config.num_gpu_blocks = _BLOCKS
    spec = FullAttentionSpec(block_size=_BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
    cache = KVCacheConfig(_BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)])
    scheduler = config.scheduler_config.get_scheduler_cls()
    return scheduler(config, cache, StructuredOutputManager(config), block_size=_BLOCK)


def _runner(config: Any) -> Any:
    """A runner that keeps requests and has no model; where a step would begin in earnest, it says so."""
    import torch
    from vllm.distributed import parallel_state
    from vllm_ascend.worker import model_runner_v1
    from vllm_ascend.worker.npu_input_batch import NPUInputBatch

    alone = SimpleNamespace(world_size=1, rank_in_group=0, is_first_rank=True, is_last_rank=True)
    parallel_state._PP = parallel_state._PCP = parallel_state._DCP = parallel_state._TP = alone
    runner = model_runner_v1.NPUModelRunner.__new__(model_runner_v1.NPUModelRunner)

    def begin(*_: Any) -> None:
        raise BegunError

    runner._prepare_inputs = begin
    named: dict[str, Any] = {
        "vllm_config": config,
        "requests": {},
        "num_prompt_logprobs": {},
        "encoder_cache": {},
        "late_interaction_runner": SimpleNamespace(
            on_requests_finished=lambda *_: None, register_request=lambda *_: None
        ),
        "input_batch": NPUInputBatch(
            _REQUESTS,
            _LONGEST,
            config.scheduler_config.max_num_batched_tokens,
            torch.device("cpu"),
            False,
            256,
            [_BLOCK],
            [[_BLOCK]],
        ),
        "use_async_scheduling": config.scheduler_config.async_scheduling,
        "ascend_config": SimpleNamespace(profiling_chunk_config=SimpleNamespace(need_timing=False)),
        "execute_model_state": None,
        "prepare_inputs_event": None,
        "device": torch.device("cpu"),
        "pcp_size": 1,
        "num_spec_tokens": 0,
        "uses_xdrope_dim": 0,
        **dict.fromkeys(("uses_mrope", "is_pooling_model", "supports_mm_inputs", "use_async_spec_decode"), False),
        "_may_reorder_batch": lambda *_: None,
        "_start_dump_data": lambda *_: None,
    }
    for name, value in named.items():
        setattr(runner, name, value)
    for name in ("model_config", "cache_config", "parallel_config", "speculative_config"):
        setattr(runner, name, getattr(config, name))
    return runner
