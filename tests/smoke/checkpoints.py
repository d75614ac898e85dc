# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints, made from a seed when the tests run.

vLLM's own ``load_format=dummy`` is too weak to test a mixture of experts: its weights are so small
that every expert answers alike and the tokens merely alternate. These have a standard deviation
of 2/sqrt(fan_in), so a token that lands on a wrong expert changes the output.

They are made so that no rounding changes a greedy token: weights are values that float16 and bfloat16 have, attention
is not sharp, a router reads dimensions that only the embedding writes, and the first logit leads by far (lead.py).
"""

import hashlib
import math
import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import lead
import reference

VOCABULARY = 256
SEED = 1
_SEEDS = 8
# Parameters by the ends of their names: those that attention scores are made of, and those that write to the residual
# stream.
_ATTENTION_SCORES = ("q_proj.weight", "k_proj.weight", "q_b_proj.weight")
_WRITERS = ("o_proj.weight", "down_proj.weight")
# What a token says of its first and second expert, and what a router makes of it.
_SIGNS = (2.0, 1.5)
_GATE = 2.0

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
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (sys.modules[__name__], lead, reference))
    dest = directory / f"{model.value}-{hashlib.sha256(model.value.encode() + code).hexdigest()[:12]}"
    if dest.is_dir():
        return dest
    partial = dest.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _random_model(model).save_pretrained(partial)
    partial.rename(dest)
    return dest


def _random_model(model: Model) -> Any:
    """Of the first seed from ``SEED`` on with a head that can be given its lead."""
    for seed in range(SEED, SEED + _SEEDS):
        try:
            return _of_seed(model, seed)
        except reference.AmbiguousReferenceError as error:
            failed = error
    raise failed


def _of_seed(model: Model, seed: int) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model.value, **model.config, torch_dtype=torch.float32)
    net = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.ndim == 2:
                # An embedding is looked up, not multiplied: its rows have no fan-in.
                fan_in = 4 if "embed" in name else tensor.shape[1]
                # Scores of attention are products of two such, and a softmax of large ones enlarges what rounding does.
                scale = 1.0 if name.endswith(_ATTENTION_SCORES) else 2.0
                tensor.normal_(0.0, scale / math.sqrt(fan_in), generator=generator)
        for name, tensor in net.named_buffers():
            if name.endswith("e_score_correction_bias"):
                tensor.normal_(0.0, 0.05, generator=generator)
                tensor.copy_(lead.representable(tensor))
        if experts := model.config.get("num_experts") or model.config.get("n_routed_experts"):
            _route_by_token(net, experts, generator)
        for tensor in net.parameters():
            tensor.copy_(lead.representable(tensor))
        lead.widen(net)
    return net


def _route_by_token(net: Any, experts: int, generator: Any) -> None:
    """Has the token decide which two experts a layer takes, in an order of each layer's own, beyond doubt.

    The first ``experts`` dimensions of the residual stream carry a token's own two experts, and no layer writes there.
    With a random router the second and third best experts of some token are always near, and a rounding would choose.
    """
    import torch

    table = net.model.embed_tokens.weight
    order = torch.rand(table.shape[0], experts, generator=generator).argsort(dim=1)
    table[:, :experts] = torch.zeros(table.shape[0], experts).scatter(
        1, order[:, :2], torch.tensor(_SIGNS).expand(len(order), 2)
    )
    for name, tensor in net.named_parameters():
        if name.endswith(_WRITERS):
            tensor[:experts] = 0.0
        elif name.endswith("mlp.gate.weight"):
            tensor.zero_()
            tensor[torch.arange(experts), torch.randperm(experts, generator=generator)] = _GATE
