# SPDX-License-Identifier: Apache-2.0
"""The models that deployments have: what each is made of, and what it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One model.

    Attributes:
        family: Hugging Face's ``model_type``.
        architecture: the class that its checkpoint names, by which vLLM finds its own.
        embeds: whether it is asked for a vector of each prompt, not for tokens.
        sees: whether every other request begins with a picture.
        kv_heads: how many heads keys and values have, which tensor parallelism alone splits.
    """

    family: str
    architecture: str
    embeds: bool = False
    sees: bool = False
    kv_heads: int = 2


KINDS: Mapping[str, Kind] = {
    "qwen3_moe": Kind("qwen3_moe", "Qwen3MoeForCausalLM"),
    "qwen3": Kind("qwen3", "Qwen3ForCausalLM"),
    "qwen3_moe_one_kv": Kind("qwen3_moe", "Qwen3MoeForCausalLM", kv_heads=1),
    "deepseek_v3": Kind("deepseek_v3", "DeepseekV3ForCausalLM", kv_heads=6),
    "llama": Kind("llama", "LlamaForCausalLM"),
    "qwen3_embedding": Kind("qwen3", "Qwen3ForCausalLM", embeds=True),
    "qwen3_moe_embedding": Kind("qwen3_moe", "Qwen3MoeForCausalLM", embeds=True),
    "qwen2_vl": Kind("qwen2_vl", "Qwen2VLForConditionalGeneration", sees=True),
}

EXPERTS = ("qwen3_moe", "qwen3_moe_one_kv", "deepseek_v3", "qwen3_moe_embedding")
DENSE = tuple(name for name in KINDS if name not in EXPERTS)
EMBEDDING = tuple(name for name, kind in KINDS.items() if kind.embeds)
"""Those that give vectors."""
