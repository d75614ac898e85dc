# SPDX-License-Identifier: Apache-2.0
"""The versions and settings that every rank must share, read from a running process."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from typing import Any, Iterator

import torch
import torch_npu
import vllm
import vllm_ascend.envs as envs_ascend

from vllm_ascend.data_parallel.moe_comm import MoECommConfig
from vllm_ascend.data_parallel.settings import GROUP, Settings

# Upstream's switches; its other variables are paths, addresses and limits, which may differ from host to host.
# So is the way in which a host copies blocks.
_SWITCH = re.compile(r"ENABLE(?!_BATCH_MEMCPY)|^USE_")
# Of HCCL's variables, those by which two ranks' collectives can fail to meet, and what HCCL takes where one is not set.
_HCCL = {"HCCL_OP_EXPANSION_MODE": "unset", "HCCL_BUFFSIZE": "200"}
# Options that name a file or a folder, which each host may keep elsewhere, and one by which it lays out its cores.
_OF_A_HOST = ("path", "dir", "location", "cpu_binding")


def facts_of_any(vllm_config: Any) -> dict[str, str]:
    """Those by which ranks are one deployment, whose steps may have nothing to do with each other."""
    model = vllm_config.model_config
    found = {
        "vllm": _public(vllm.__version__),
        "--data-parallel-size": vllm_config.parallel_config.data_parallel_size,
        "model architecture": model.hf_config.architectures,
        "vocabulary": model.get_vocab_size(),
        "hidden size": model.get_hidden_size(),
    }
    return {name: str(value) for name, value in found.items()}


def facts(vllm_config: Any, settings: Settings, moe: MoECommConfig) -> dict[str, str]:
    """Each fact as text, under the name by which a user sets or knows it."""
    parallel, scheduler, model = vllm_config.parallel_config, vllm_config.scheduler_config, vllm_config.model_config
    speculative = vllm_config.speculative_config
    found: dict[str, Any] = {
        **facts_of_any(vllm_config),
        "torch": _public(torch.__version__),
        "torch_npu": _public(torch_npu.__version__),
        GROUP.name: settings.metadata_group.value,
        "--tensor-parallel-size": parallel.tensor_parallel_size,
        "--pipeline-parallel-size": parallel.pipeline_parallel_size,
        "--enable-expert-parallel": parallel.enable_expert_parallel,
        "--enforce-eager": model.enforce_eager,
        "--dtype": model.dtype,
        "--quantization": model.quantization,
        "--max-num-seqs": scheduler.max_num_seqs,
        "--max-num-batched-tokens": scheduler.max_num_batched_tokens,
        "graph sizes": vllm_config.compilation_config.cudagraph_capture_sizes,
        "speculative method": speculative and speculative.method,
        "speculative tokens": speculative and speculative.num_speculative_tokens,
    }
    found.update((f"MoE {field.name}", getattr(moe, field.name)) for field in fields(moe))
    found.update((name, getattr(envs_ascend, name)) for name in envs_ascend.env_variables if _SWITCH.search(name))
    found.update((name, os.environ.get(name, usual)) for name, usual in _HCCL.items())
    found.update(_leaves("additional_config", vllm_config.additional_config or {}))
    return {name: str(value) for name, value in found.items()}


def _public(version: str) -> str:
    """A version without its local label, which says how that was built or packed."""
    return version.partition("+")[0]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not key.endswith(_OF_A_HOST):
                yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value
