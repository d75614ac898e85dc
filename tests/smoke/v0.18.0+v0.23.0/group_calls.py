# SPDX-License-Identifier: Apache-2.0
"""Layers that gather rows over DP ranks, and how experts exchange theirs, by the release's own methods."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import merged_draft

# Of one rank, on an A3.
_MC2_ROWS = 512


def drafter_rows(own: int, of_step: int) -> int:
    """Rows of a drafter without experts, whose MLP is split over two ranks, after a step in which this one has ``own``
    tokens and all compute ``of_step`` rows."""
    from vllm_ascend.worker import model_runner_v1

    model_runner_v1.should_skip_allreduce_across_dp_group = lambda _, is_draft_model=False: is_draft_model
    runner = model_runner_v1.NPUModelRunner.__new__(model_runner_v1.NPUModelRunner)
    runner.dp_size, runner.dp_rank, runner.pcp_size = 2, 0, 1
    runner.vllm_config = SimpleNamespace(speculative_config=SimpleNamespace(method="eagle3"))
    runner.drafter = SimpleNamespace(needs_extra_input_slots=False)
    with suppress(ModuleNotFoundError):
        from vllm_ascend.data_parallel import release, upstream
        from vllm_ascend.data_parallel import runner as ours
        from vllm_ascend.data_parallel.metadata import StepMetadata
        from vllm_ascend.data_parallel.plan import StepPlan
        from vllm_ascend.data_parallel.row_groups import RowGroup

        upstream.row_group_sizes = lambda *_: {RowGroup.MLP: 2}
        release.is_drafter_moe_model = lambda *_: False
        ours.should_skip_allreduce_across_dp_group = model_runner_v1.should_skip_allreduce_across_dp_group
        runner.step = StepPlan(StepMetadata((own, of_step), False, False, False), 0, uniform_size=of_step)
    rows, of_all, _ = runner._sync_metadata_across_dp(own, is_draft_model=True)
    assert of_all[0] == rows
    return int(rows)


def draft_rows(rows: int, requests: int) -> list[int]:
    """Rows of each forward of three drafts by Eagle without graphs, after a step of ``rows`` for so many requests."""
    found: list[int] = []

    def forward(count: int, _attends: bool) -> int:
        found.append(count)
        return 0

    runner = SimpleNamespace(dp_size=2, drafter_gathers=True)
    merged_draft.run(rows, list(range(requests)), forward, tuples=True, method="eagle3", runner=runner)
    return found


def rows_projected(attention: str, split: bool) -> list[int]:
    """Rows of each call of the output projection by an attention that has no metadata, for 3 rows; ``split`` says that
    the projection is split over the DP ranks."""
    import importlib

    import torch

    module = importlib.import_module(f"vllm_ascend.attention.{attention}_v1")
    module.oproj_tp_enable = lambda: split
    module._EXTRA_CTX = SimpleNamespace(num_tokens=3, in_profile_run=False)
    found: list[int] = []

    def o_proj(given: Any, **_: Any) -> tuple[Any, None]:
        assert given.shape[1] == heads * width and not given.any()
        found.append(given.shape[0])
        return torch.zeros(given.shape[0], hidden), None

    heads, width, hidden = 2, 5, 4
    layer = SimpleNamespace(
        layer_sharding_kwargs=None,
        enable_dsa_cp_with_layer_shard=False,
        num_heads=heads,
        local_num_heads=heads,
        v_head_dim=width,
        o_proj=o_proj,
    )
    given = torch.ones(3, hidden)
    implementation = getattr(module, f"Ascend{attention.upper()}Impl")
    assert not implementation.forward(layer, "layer", given, (), None, output=torch.ones(3, hidden)).any()
    return found


def communication_of(tokens: list[int]) -> list[str]:
    """By rank: how experts exchange rows in a step of so many tokens, on an A3's decode node with the recompute
    scheduler and without graphs, whose MC2 takes 512 rows: by the largest count that the rank is told of."""
    import torch
    from vllm.config import CUDAGraphMode
    from vllm_ascend.worker import model_runner_v1
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner

    model_runner_v1.should_skip_allreduce_across_dp_group = lambda *_: True
    found = []
    for rank, own in enumerate(tokens):
        runner = NPUModelRunner.__new__(NPUModelRunner)
        runner.dp_size, runner.dp_rank, runner.vllm_config = len(tokens), rank, None
        runner.max_num_tokens, runner.max_num_reqs, runner.uniform_decode_query_len = 8192, 600, 1
        runner.dynamic_eplb = False
        runner.compilation_config = SimpleNamespace(cudagraph_mode=CUDAGraphMode.NONE)
        if hasattr(runner, "decide_step"):
            counts = _decided(runner, tokens)
        elif hasattr(runner, "_sync_batch_across_dp"):  # v0.18.0
            _, counts, _ = runner._sync_batch_across_dp(own, 0, False)
        else:
            _, counts, _ = runner._sync_metadata_across_dp(own)
        assert isinstance(counts, torch.Tensor)
        found.append("MC2" if int(counts.max()) <= _MC2_ROWS else "ALLTOALL")
    return found


def _decided(runner: Any, tokens: list[int]) -> Any:
    """Each rank's rows, as the overlay decides them where all ranks bring ``tokens``."""
    from vllm.config import CUDAGraphMode

    from vllm_ascend.data_parallel import runner as ours
    from vllm_ascend.data_parallel import upstream
    from vllm_ascend.data_parallel.metadata import StepMetadata
    from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommConfig

    ours.should_skip_allreduce_across_dp_group = lambda *_: True
    ours.is_moe_model, ours.expects_equal_rows = (lambda _: True), (lambda *_: False)
    ours.enable_sp, ours.enable_sp_by_pass = (lambda _: False), (lambda: False)
    ours.moe_comm_config = lambda _: MoECommConfig("A3", 16, _MC2_ROWS, within=MoEComm.MC2, beyond=MoEComm.ALLTOALL)
    upstream.row_group_sizes = lambda *_: {}
    pending = SimpleNamespace(result=lambda _: StepMetadata(tuple(tokens), False, False, False))
    vars(runner)["_synchronizer"] = SimpleNamespace(issue=lambda _: pending)
    vars(runner)["_given_up"] = None
    own = tokens[runner.dp_rank]
    dispatch = lambda rows, _: (CUDAGraphMode.NONE, SimpleNamespace(num_tokens=rows))  # noqa: E731
    return runner.decide_step(own, CUDAGraphMode.NONE, dispatch)[-1]
