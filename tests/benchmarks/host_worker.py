# SPDX-License-Identifier: Apache-2.0
"""What a step costs the host beside its model: one process for each tree, which `host_time.py` has take turns.

With a tree, vLLM and the NPU's stand-in on PYTHONPATH. Reads a JSON line ``{"case": name, "repeats": n}`` and answers
with a JSON number: seconds of this thread's CPU time of that many steps; with the file that callgrind writes to as an
argument, instructions. The group is torch's fake one, which reduces nothing:
the host's part of a collective is measured, and no other rank, no socket and no other thread.

A step is all that either tree does with the metadata: issue, pack, await, unpack, plan, the choice of the MoE
communication, vLLM's DPMetadata, the forward context, the recorder, and the forward of each MoE layer without its
experts, so that what decorates it is in.
"""

import inspect
import json
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import callgrind
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from upstream_calls import _compilation, _experts, _surroundings
from vllm import config as vllm_config
from vllm.distributed import parallel_state
from vllm_ascend.ascend_forward_context import set_ascend_forward_context
from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

MAX_NUM_TOKENS, TOKENS, MC2_ROWS = 8192, 64, 512
STEPS = 256  # that a rank remembers unless it is told otherwise
PATCHED = hasattr(NPUModelRunner, "_issue_real_step")
PARAMETERS = inspect.signature(set_ascend_forward_context).parameters
ROWS = torch.zeros(1, 8)

Step = Callable[[], object]


class Kept:
    """An MoE communication of upstream's kind: hands its tensors from dispatch to combine as attributes."""

    def prepare(self, hidden_states: Any, router_logits: Any, **_: Any) -> Any:
        self.mask = None
        self.reversed_local_input_permutation_mapping = hidden_states
        return hidden_states, router_logits

    def finalize(self, hidden_states: Any, **_: Any) -> Any:
        self.mask = None
        return hidden_states


class AnyLayer(SimpleNamespace):
    """A layer all of whose settings are None."""

    def __getattr__(self, name: str) -> None:
        return None


def runner(ranks: int, *, eager: bool, experts: bool) -> Any:
    """A runner of DP rank 0 of so many, as far as a step's decision reads it."""
    made: Any = NPUModelRunner.__new__(NPUModelRunner)
    parallel = SimpleNamespace(
        data_parallel_size=ranks, data_parallel_rank=0, tensor_parallel_size=1, pipeline_parallel_size=1,
        enable_expert_parallel=False, world_size_across_dp=ranks,
    )  # fmt: skip
    hf_config = _experts() if experts else SimpleNamespace(model_type="qwen3", to_dict=dict)
    made.vllm_config = SimpleNamespace(
        parallel_config=parallel,
        model_config=SimpleNamespace(enforce_eager=eager, hf_config=hf_config, hf_text_config=hf_config),
        compilation_config=_compilation(),
        quant_config=None,
        scheduler_config=SimpleNamespace(async_scheduling=False),
        pad_for_cudagraph=lambda tokens: tokens,
    )
    if mode := getattr(vllm_config, "CUDAGraphMode", None):
        made.vllm_config.compilation_config.cudagraph_mode = mode.PIECEWISE
    made.compilation_config, made.parallel_config = made.vllm_config.compilation_config, parallel
    made.model_config = made.vllm_config.model_config
    made.dp_rank, made.dp_size, made.device = 0, ranks, torch.device("npu")
    made.use_aclgraph, made.aclgraph_batch_sizes = not eager, [MAX_NUM_TOKENS]
    made.torchair_graph_enabled = False
    made.mc2_tokens_capacity, made.reserved_mc2_mask = MC2_ROWS, torch.zeros(MC2_ROWS, dtype=torch.bool)
    return made


def pristine_step(made: Any) -> tuple[int, Any, dict[str, Any]]:
    """Rows, counts over the ranks, and what the forward context is told, as upstream's runner has it."""
    name = "_sync_metadata_across_dp"
    sync = getattr(made, name, None) or made._get_forward_metadata_across_dp_and_pad
    rows, across, with_prefill, _ = sync(TOKENS, False, False)
    more = {"with_prefill": with_prefill}
    if "moe_comm_method" in PARAMETERS:
        more["moe_comm_method"] = made._select_moe_comm_method(rows)
    elif "moe_comm_type" in PARAMETERS:
        more["moe_comm_type"] = made._select_moe_comm_method(rows, with_prefill)
    return rows, across, more


def patched_step(made: Any) -> tuple[int, Any, dict[str, Any]]:
    plan = made._await_step(made._issue_real_step(TOKENS, False, False))
    return plan.num_input_tokens, plan.num_tokens_across_dp, {"with_prefill": plan.with_prefill}


def prepared(made: Any, *, experts: bool, graph: bool, steps: int) -> None:
    """What a patched runner has found out by its first step; it keeps so many ``steps``."""
    from vllm_ascend.data_parallel.metadata import LocalBatch
    from vllm_ascend.data_parallel.recorder import Recorder
    from vllm_ascend.data_parallel.synchronizer import MetadataSynchronizer

    made.recorder, made._must_agree, made._row_groups = Recorder(steps), experts, frozenset()
    made._given_up = None
    if not experts:
        return
    found = MetadataSynchronizer(0, made.dp_size, MAX_NUM_TOKENS, dist.group.WORLD, made.device)
    made._synchronizer, pack = found, found.fields.pack
    others = sum(pack(LocalBatch(TOKENS, False, False, graph), rank) for rank in range(1, made.dp_size))
    found.fields.pack = lambda batch, rank: pack(batch, rank) | others  # the group brings nothing from the others


@cache
def step_of(case: str) -> Step:
    """``case`` is "mode, model, ranks, layers", and "tracing off" after them."""
    mode, model, ranks, layers, *untraced = case.split(", ")
    meet(int(ranks))
    made = runner(int(ranks), eager=mode == "eager", experts=model == "moe")
    if PATCHED:
        prepared(made, experts=model == "moe", graph=mode == "graph", steps=0 if untraced else STEPS)
    decide = patched_step if PATCHED else pristine_step
    moe_layers = [layer() for _ in range(int(layers))]

    def forward() -> None:
        rows, across, more = decide(made)
        given = {"num_tokens": rows, "num_tokens_across_dp": across, "num_actual_tokens": TOKENS, **more}
        if "reserved_mc2_mask" in PARAMETERS:
            given["reserved_mc2_mask"] = made.reserved_mc2_mask
        with set_ascend_forward_context(None, made.vllm_config, **given):
            for one in moe_layers:
                one(ROWS, ROWS)

    if not PATCHED:
        return forward
    from vllm_ascend.data_parallel.start import recorded

    step = recorded(lambda _: forward())
    return lambda: step(made)


def layer() -> Callable[[Any, Any], Any]:
    """The forward of a generic MoE layer whose experts do nothing, where the release has one of its own."""
    from vllm_ascend.ops import common_fused_moe

    kept = Kept()
    made = AnyLayer(
        quant_method=SimpleNamespace(apply=lambda x, **_: x), allgathercommimpl=kept, mc2commimpl=kept,
        alltoallcommimpl=kept, moe_config=SimpleNamespace(ep_size=1),
    )  # fmt: skip
    forward = common_fused_moe.AscendFusedMoE.forward_impl
    return lambda rows, logits: forward(made, rows, logits)


@cache
def unpack_of(ranks: int) -> Step:
    from vllm_ascend.data_parallel.metadata import BitFields, LocalBatch

    fields = BitFields(ranks, MAX_NUM_TOKENS)
    packed = sum(fields.pack(LocalBatch(TOKENS, False), rank) for rank in range(ranks))
    return lambda: fields.unpack(packed)


_met = 0


def meet(ranks: int) -> None:
    """A group of so many ranks, as vLLM's DP group."""
    global _met
    if ranks != _met:
        if _met:
            dist.destroy_process_group()
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        _met = ranks
        step_of.cache_clear()
    _surroundings(1, 1, torchair=False)
    world: Any = dist.group.WORLD
    group: Any = SimpleNamespace(device_group=world, cpu_group=world, world_size=ranks, rank_in_group=0)
    parallel_state._DP = group


def main() -> None:
    torch.set_num_threads(1)
    counter = callgrind.Counter(Path(sys.argv[1])) if sys.argv[1:] else None
    for line in sys.stdin:
        asked = json.loads(line)
        name, _, size = asked["case"].partition(" ")
        step = unpack_of(int(size)) if name == "unpack" else step_of(asked["case"])
        done = partial(seconds, step, asked["repeats"])
        print(json.dumps(counter.count(done) if counter else done()), flush=True)


def seconds(step: Step, repeats: int) -> float:
    """CPU time of this thread in so many steps."""
    begin = time.thread_time()
    for _ in range(repeats):
        step()
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
