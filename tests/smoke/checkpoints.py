# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints, made from a seed when the tests run.

vLLM's own ``load_format=dummy`` is too weak to test a mixture of experts: its weights are so small
that every expert answers alike and the tokens merely alternate. These have a standard deviation
of 2/sqrt(fan_in), so a token that lands on a wrong expert changes the output.
"""

import json
import math
import shutil
from enum import Enum
from pathlib import Path
from typing import Any

VOCABULARY = 256
SEED = 1

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "attention_dropout": 0.0,
}
_GROUPED_QUERY: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 32}
_EXPERTS: dict[str, Any] = {
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
# One routing group: with more, upstream's native grouped top-k takes a group's best expert where
# Hugging Face sums the best two. yarn: without a scaling upstream's rotary embedding has no cache.
_LATENT_ATTENTION: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "rope_scaling": {
        "type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
}


class Model(Enum):
    """A model family; the value is its Hugging Face ``model_type``."""

    QWEN3 = "qwen3"
    QWEN3_MOE = "qwen3_moe"
    DEEPSEEK_V3 = "deepseek_v3"
    LLAMA = "llama"

    @property
    def architecture(self) -> str:
        """The class that a checkpoint names, by which vLLM finds its own."""
        names = {"qwen3": "Qwen3", "qwen3_moe": "Qwen3Moe", "deepseek_v3": "DeepseekV3", "llama": "Llama"}
        return names[self.value] + "ForCausalLM"

    @property
    def config(self) -> dict[str, Any]:
        match self:
            case Model.QWEN3:
                return _COMMON | _GROUPED_QUERY
            case Model.QWEN3_MOE:
                return _COMMON | _GROUPED_QUERY | _EXPERTS
            case Model.DEEPSEEK_V3:
                return _COMMON | _LATENT_ATTENTION
            case Model.LLAMA:
                # An Eagle3 head reads the hidden states before the third layer, the middle one and the third from the
                # end: three different ones from seven layers on.
                return _COMMON | _GROUPED_QUERY | {"num_hidden_layers": 7}


def make(model: Model, directory: Path) -> Path:
    """The float32 checkpoint of ``model`` under ``directory``, made unless it is there already.

    Its folder is named by the recipe, so an edited recipe makes a new checkpoint.
    """
    recipe = {"model_type": model.value, "seed": SEED, **model.config}
    dest = directory / f"{model.value}-{_digest(recipe, Path(__file__).read_bytes())}"
    if dest.is_dir():
        return dest
    partial = dest.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _random_model(model).save_pretrained(partial)
    partial.rename(dest)
    return dest


def _digest(recipe: dict[str, Any], code: bytes) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode() + code).hexdigest()[:12]


def _random_model(model: Model) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model.value, **model.config, torch_dtype=torch.float32)
    net = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.ndim == 2:
                # An embedding is looked up, not multiplied: its rows have no fan-in.
                fan_in = 4 if "embed" in name else tensor.shape[1]
                tensor.normal_(0.0, 2.0 / math.sqrt(fan_in), generator=generator)
        for name, tensor in net.named_buffers():
            if name.endswith("e_score_correction_bias"):
                tensor.normal_(0.0, 0.05, generator=generator)
    return net
