# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with a drafter: DeepSeek's multi-token-prediction layer, or an Eagle3 head for a dense model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from checkpoints import SEED

Tensors = dict[str, "torch.Tensor"]  # noqa: F821, torch is imported where it is used


def with_mtp_layer(checkpoint: Path) -> Path:
    """A copy of a DeepSeek-V3-like ``checkpoint`` that has one multi-token-prediction layer behind its last layer.

    The block of that layer is a copy of the last one's, its head and projection are random: its drafts are of the
    right form and mostly wrong.
    """

    def build(dest: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        shutil.copytree(checkpoint, dest, ignore=shutil.ignore_patterns("*.safetensors"))
        config = json.loads((dest / "config.json").read_text())
        layers, width, vocabulary = config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]
        last, drafter = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
        tensors = load_file(checkpoint / "model.safetensors")
        block = {drafter + name.removeprefix(last): it.clone() for name, it in tensors.items() if name.startswith(last)}
        generator = torch.Generator().manual_seed(SEED)
        own = {
            "embed_tokens.weight": tensors["model.embed_tokens.weight"].clone(),
            "enorm.weight": torch.ones(width),
            "hnorm.weight": torch.ones(width),
            "eh_proj.weight": torch.randn(width, 2 * width, generator=generator) / width**0.5,
            "shared_head.norm.weight": torch.ones(width),
            "shared_head.head.weight": torch.randn(vocabulary, width, generator=generator) / width**0.5,
        }
        tensors |= block | {drafter + name: it for name, it in own.items()}
        save_file(tensors, dest / "model.safetensors", metadata={"format": "pt"})
        (dest / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))

    return _made(checkpoint.with_name(f"{checkpoint.name}-mtp"), build)


def _made(dest: Path, build: Callable[[Path], None]) -> Path:
    """``dest``, built unless it is there already."""
    if not dest.is_dir():
        partial = dest.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        build(partial)
        partial.rename(dest)
    return dest
