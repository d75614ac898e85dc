# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with a drafter: DeepSeek's multi-token-prediction layer, or an Eagle3 head for a Llama.

Norms are one and matrices random, so drafts are of the right form and nearly always wrong: every step rejects.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints import SEED

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

ARCHITECTURES = ("DeepSeekMTPModel", "Eagle3LlamaForCausalLM")
"""The drafters' classes, by vLLM's names."""


def with_mtp_layer(checkpoint: Path) -> Path:
    """A copy of a DeepSeek-V3-like ``checkpoint`` that has one multi-token-prediction layer behind its last layer."""

    def change(config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        layers, width, vocabulary = config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]
        own = _random({"eh_proj": (width, 2 * width), "shared_head.head": (vocabulary, width)})
        own |= _ones(width, "enorm", "hnorm", "shared_head.norm")
        own["embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
        own |= _layer(tensors, layers - 1)
        tensors |= {f"model.layers.{layers}.{name}": tensor.clone() for name, tensor in own.items()}
        return config | {"num_nextn_predict_layers": 1}, tensors

    return _derived(checkpoint, "mtp", change)


def eagle3_head(target: Path) -> Path:
    """A one-layer Eagle3 head for a Llama ``target``, whose embedding it shares."""

    def change(config: dict[str, Any], _: Tensors) -> tuple[dict[str, Any], Tensors]:
        width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
        queries = config["num_attention_heads"] * config["head_dim"]
        keys = config["num_key_value_heads"] * config["head_dim"]
        shapes = {
            "fc": (width, 3 * width),
            "lm_head": (vocabulary, width),
            "midlayer.self_attn.q_proj": (queries, 2 * width),
            "midlayer.self_attn.k_proj": (keys, 2 * width),
            "midlayer.self_attn.v_proj": (keys, 2 * width),
            "midlayer.self_attn.o_proj": (width, queries),
            "midlayer.mlp.gate_proj": (inner, width),
            "midlayer.mlp.up_proj": (inner, width),
            "midlayer.mlp.down_proj": (width, inner),
        }
        norms = ("input_layernorm", "hidden_norm", "post_attention_layernorm")
        tensors = _random(shapes) | _ones(width, "norm", *(f"midlayer.{name}" for name in norms))
        return config | {"num_hidden_layers": 1, "draft_vocab_size": vocabulary}, tensors

    return _derived(target, "eagle3", change)


def _layer(tensors: Tensors, index: int) -> Tensors:
    prefix = f"model.layers.{index}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _random(shapes: dict[str, tuple[int, int]]) -> Tensors:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    drawn = {name: torch.randn(shape, generator=generator) * shape[1] ** -0.5 for name, shape in shapes.items()}
    return {f"{name}.weight": tensor for name, tensor in drawn.items()}


def _ones(width: int, *names: str) -> Tensors:
    import torch

    return {f"{name}.weight": torch.ones(width) for name in names}


def _derived(
    checkpoint: Path, suffix: str, change: Callable[[dict[str, Any], Tensors], tuple[dict[str, Any], Tensors]]
) -> Path:
    """``checkpoint`` with its configuration and tensors changed, in a folder beside it; made unless it is there."""
    dest = checkpoint.with_name(f"{checkpoint.name}-{suffix}")
    if not dest.is_dir():
        from safetensors.torch import load_file, save_file

        partial = dest.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        tensors = load_file(checkpoint / "model.safetensors")
        config, tensors = change(json.loads((checkpoint / "config.json").read_text()), tensors)
        (partial / "config.json").write_text(json.dumps(config, indent=1))
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
        partial.rename(dest)
    return dest
