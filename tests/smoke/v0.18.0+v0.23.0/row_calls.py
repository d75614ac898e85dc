# SPDX-License-Identifier: Apache-2.0
"""What a rank decides about its rows, by the release's own methods."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any


def rows_in_eager_step(rows: list[int], by_pass: bool) -> list[int]:
    """By rank: the rows that it computes in a step without a graph to which ranks bring ``rows``.

    ``by_pass`` is sequence parallelism by a compile pass, whose experts gather the rows of all ranks as they are.
    """
    import numpy as np
    import torch.distributed as dist
    from vllm.config import CUDAGraphMode
    from vllm.distributed import parallel_state
    from vllm.forward_context import BatchDescriptor
    from vllm_ascend.worker import model_runner_v1

    def all_reduce(tensor: Any, **_: Any) -> None:
        for rank, count in enumerate(rows):
            tensor[0][rank] = count  # the second line is of graphs, and no rank has one

    dist.all_reduce = all_reduce
    parallel_state._DP = SimpleNamespace(cpu_group=None)
    modules = [model_runner_v1]
    with suppress(ModuleNotFoundError):
        from vllm_ascend.data_parallel import runner as ours
        from vllm_ascend.data_parallel import upstream
        from vllm_ascend.data_parallel.metadata import StepMetadata

        upstream.row_group_sizes = lambda *_: {}
        pending = SimpleNamespace(result=lambda *_: StepMetadata(tuple(rows), False, False, False))
        ours.moe_comm_config, ours.expects_equal_rows = (lambda _: None), (lambda *_: False)
        ours.DataParallelStep._synchronizer = SimpleNamespace(issue=lambda *_: pending)
        modules.append(ours)
    for module in modules:
        module.enable_sp = lambda *_: False
        module.enable_sp_by_pass = lambda: by_pass
        module.should_skip_allreduce_across_dp_group = lambda *_: False
    for name in ("oproj_tp_enable", "embedding_tp_enable"):
        setattr(model_runner_v1, name, lambda: False)
    computed = []
    for rank, own in enumerate(rows):
        parallel = SimpleNamespace(data_parallel_size=len(rows), data_parallel_rank=rank, tensor_parallel_size=1)
        runner = model_runner_v1.NPUModelRunner.__new__(model_runner_v1.NPUModelRunner)
        runner.dp_size, runner.dp_rank, runner.parallel_config = len(rows), rank, parallel
        runner.vllm_config = SimpleNamespace(
            parallel_config=parallel, observability_config=SimpleNamespace(cudagraph_metrics=False)
        )
        runner.ascend_config = SimpleNamespace(dp_allreduce_on_npu=False)
        runner.model_config = SimpleNamespace(is_encoder_decoder=False)
        runner.speculative_config, runner.uniform_decode_query_len = None, 1
        runner.dynamic_eplb, runner.eplb_heat_collection_stage = False, "all"
        runner.input_batch = SimpleNamespace(num_computed_tokens_cpu=np.zeros(1), lora_id_to_lora_request={})
        runner.cudagraph_dispatcher = SimpleNamespace(
            dispatch=lambda num_tokens, **_: (CUDAGraphMode.NONE, BatchDescriptor(num_tokens))
        )
        found = runner._determine_batch_execution_and_padding(own, 1, np.array([own]), own, use_cascade_attn=False)
        assert found[3][rank] == found[1].num_tokens
        computed.append(found[1].num_tokens)
    return computed
