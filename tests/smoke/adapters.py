# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters that change nothing, and engine runs whose requests ask for them.

Their second matrix is zero, so that the expected tokens are those of the model: what is looked at is that adapters are
loaded, chosen and run.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from checkpoints import Model
from job import GRAPH_SIZES, MAX_SEQS, EngineRun, Mode, Round, Tree

RANK = 8
ADAPTERS = 2
_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def make(checkpoint: Path) -> list[Path]:
    """Folders of ``ADAPTERS`` adapters for the Qwen3-like ``checkpoint``, beside it; made unless they are there."""
    folders = [checkpoint.with_name(f"{checkpoint.name}-adapter{number}") for number in range(ADAPTERS)]
    for folder in folders:
        if not folder.is_dir():
            _write(folder, json.loads((checkpoint / "config.json").read_text()))
    return folders


def _write(folder: Path, config: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import save_file

    width, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (queries, width)}
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name in _TARGETS:
            into, out = shapes[name]
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.ones(RANK, into)
            tensors[f"{stem}.lora_B.weight"] = torch.zeros(out, RANK)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(_TARGETS), "bias": "none"}
    (partial / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    partial.rename(folder)


@dataclass(frozen=True)
class AdaptedRun(EngineRun):
    """A run whose requests ask for adapters in turn; its largest graph has more rows than there are requests."""

    @property
    def script(self) -> str:
        return "adapted"

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        return f"{run}, adapters on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        if self.mode is Mode.ACL_GRAPH:
            arguments["compilation_config"] = {"cudagraph_capture_sizes": [*GRAPH_SIZES, 2 * MAX_SEQS]}
        return arguments | {"enable_lora": True, "max_loras": ADAPTERS, "max_lora_rank": RANK}

    def more(self, rank: int, checkpoint: Path) -> dict[str, Any]:
        return {"adapters": [str(folder) for folder in make(checkpoint)]}


# Rank 1 prefills more rows than it may hold requests, in a graph; so does the idle rank 0.
ROUNDS = (Round("both", ((0,), (2,))), Round("nine tokens on rank 1", ((), (4,))))
GRAPH = AdaptedRun(Tree.PATCHED, Model.QWEN3, Mode.ACL_GRAPH, rounds=ROUNDS)
EAGER = replace(GRAPH, mode=Mode.EAGER)
PRISTINE_GRAPH = replace(GRAPH, tree=Tree.PRISTINE)
