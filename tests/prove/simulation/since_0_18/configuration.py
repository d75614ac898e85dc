# SPDX-License-Identifier: Apache-2.0
"""vLLM's configuration of a deployment: as much of it as upstream's decisions ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vllm.config import CompilationMode, CUDAGraphMode

from simulation.schedule import Deployment, Drafter, KVRole, Mode

MOST_ROWS = 16384

_MODES = {
    Mode.EAGER: CUDAGraphMode.NONE,
    Mode.ACL_GRAPH: CUDAGraphMode.PIECEWISE,
    Mode.FULL_DECODE: CUDAGraphMode.FULL_DECODE_ONLY,
    Mode.BOTH: CUDAGraphMode.FULL_AND_PIECEWISE,
}
_METHODS = {Drafter.NGRAM: "ngram", Drafter.EAGLE: "eagle", Drafter.MTP: "mtp"}


def of(one: Deployment, dp_rank: int) -> Any:
    """The configuration of one rank."""
    return SimpleNamespace(
        model_config=_model(one),
        scheduler_config=SimpleNamespace(
            max_num_seqs=one.max_num_seqs, max_num_batched_tokens=one.max_num_batched_tokens, async_scheduling=False
        ),
        parallel_config=_parallel(one, dp_rank),
        compilation_config=_compilation(one),
        speculative_config=None if one.drafter is Drafter.NONE else _speculative(one),
        observability_config=SimpleNamespace(cudagraph_metrics=False),
        lora_config=None,
        additional_config=None,
        use_v2_model_runner=False,
        kv_transfer_config=None if one.kv_role is KVRole.NONE else _transfer(one),
    )


def _model(one: Deployment) -> Any:
    experts = {"num_experts": 256}
    return SimpleNamespace(
        enforce_eager=one.mode is Mode.EAGER,
        hf_text_config=SimpleNamespace(to_dict=lambda: experts, **experts),
        hf_config=SimpleNamespace(),
        get_num_experts=lambda: 256,
        get_vocab_size=lambda: 1024,
        max_model_len=MOST_ROWS,
        uses_mrope=False,
        use_mla=False,
        is_encoder_decoder=False,
        is_multimodal_model=False,
        enable_return_routed_experts=False,
    )


def _parallel(one: Deployment, dp_rank: int) -> Any:
    return SimpleNamespace(
        data_parallel_size=one.dp,
        data_parallel_rank=dp_rank,
        tensor_parallel_size=one.tp,
        prefill_context_parallel_size=1,
        pipeline_parallel_size=1,
        world_size_across_dp=one.dp * one.tp,
        enable_expert_parallel=one.expert_parallel,
        enable_dbo=False,
        num_ubatches=0,
        is_moe_model=True,
        distributed_executor_backend="mp",
    )


def _compilation(one: Deployment) -> Any:
    eager = one.mode is Mode.EAGER
    return SimpleNamespace(
        mode=CompilationMode.NONE if eager else CompilationMode.VLLM_COMPILE,
        cudagraph_mode=_MODES[one.mode],
        cudagraph_capture_sizes=[] if eager else list(one.graph_sizes),
        max_cudagraph_capture_size=0 if eager else one.graph_sizes[-1],
        compile_sizes=[],
        cudagraph_specialize_lora=True,
        is_attention_compiled_piecewise=lambda: True,
        static_forward_context={},
        fast_moe_cold_start=False,
        pass_config=SimpleNamespace(enable_sp=one.sequence_pass),
    )


def _speculative(one: Deployment) -> Any:
    """Of the drafter, which is dense but for MTP."""
    text = {"num_experts": 256} if one.drafter is Drafter.MTP else {}
    return SimpleNamespace(
        method=_METHODS[one.drafter],
        num_speculative_tokens=one.drafts,
        use_eagle=lambda: one.drafter in (Drafter.EAGLE, Drafter.MTP),
        uses_draft_model=lambda: False,
        uses_extract_hidden_states=lambda: False,
        use_ngram_gpu=lambda: False,
        disable_padded_drafter_batch=one.unpadded_drafter,
        enforce_eager=False,
        draft_model_config=SimpleNamespace(hf_text_config=SimpleNamespace(to_dict=lambda: text)),
    )


def _transfer(one: Deployment) -> Any:
    return SimpleNamespace(
        is_kv_consumer=one.kv_role in (KVRole.CONSUMER, KVRole.BOTH),
        is_kv_producer=one.kv_role in (KVRole.PRODUCER, KVRole.BOTH),
    )
