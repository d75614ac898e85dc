# SPDX-License-Identifier: Apache-2.0
"""What the memory profile runs, so that it sees every communication method that serving can choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from vllm.model_executor.layers.fused_moe import FusedMoE

from vllm_ascend.data_parallel.moe_comm import MoECommChoice, MoECommConfig, select_moe_comm

# A prime far from the powers of two that vocabularies and expert counts are made of: neighbours get unlike tokens.
TOKEN_STRIDE = 7919

# Upstream's modules of custom layers; vLLM's FusedMoE and its other subclasses are generic ones.
_CUSTOM_LAYERS = frozenset({"vllm_ascend.ops.fused_moe", "vllm_ascend.torchair.ops.torchair_fused_moe"})


@dataclass(frozen=True)
class MoEFamilies:
    """Which families of MoE layers (see moe_comm.py) a deployment computes; none of them: a dense model."""

    generic: bool = False
    custom: bool = False

    @classmethod
    def of(cls, *models: Optional[torch.nn.Module]) -> MoEFamilies:
        """The families of all layers of a target and its drafter, None where there is no such model.

        A quantised layer counts for both, since its kernels ask for what the other family goes by too.
        """
        generic = custom = False
        for model in models:
            for layer in model.modules() if model is not None else ():
                if isinstance(layer, FusedMoE):
                    quantised = getattr(layer, "quant_config", None) is not None
                    is_custom = any(base.__module__ in _CUSTOM_LAYERS for base in type(layer).__mro__)
                    custom = custom or is_custom or quantised
                    generic = generic or not is_custom or quantised
        return cls(generic, custom)

    def seen_in(self, choice: MoECommChoice) -> tuple[object, ...]:
        """What of ``choice`` these layers act on."""
        of_custom = (choice.custom, choice.dispatcher) if self.custom else ()
        return (choice.generic if self.generic else None, *of_custom)


@dataclass(frozen=True)
class ProfilePass:
    """One forward of the profile run: ``num_tokens`` rows on every rank, and the choice that they lead to."""

    num_tokens: int
    with_prefill: bool
    choice: MoECommChoice


def profile_passes(
    max_num_tokens: int, max_decode_tokens: int, config: MoECommConfig, families: MoEFamilies
) -> list[ProfilePass]:
    """For every choice of serving that ``families`` can tell from others, its largest batch; the largest of all first.

    ``max_num_tokens`` is the largest batch of any kind and ``max_decode_tokens`` the largest of decodes, both in rows
    of one rank. The first pass is the one that Dynamo traces: it must be upstream's, for a trace of one row would hold
    for one row alone. A compiled decode is left out: TorchAir compiles it after profiling, from buffers sized then.
    """
    sizes = [(max_num_tokens, True), (min(config.mc2_capacity, max_num_tokens), True)]
    if not config.compiled_decode:
        decode = min(max_decode_tokens, max_num_tokens)
        sizes += [(decode, False), (min(config.mc2_capacity, decode), False)]
    largest: dict[tuple[object, ...], ProfilePass] = {}
    # Stable: of two as large, the prefill.
    for num_tokens, with_prefill in sorted(sizes, key=lambda size: -size[0]):
        if num_tokens > 0:
            choice = select_moe_comm(num_tokens, with_prefill, config)
            largest.setdefault(families.seen_in(choice), ProfilePass(num_tokens, with_prefill, choice))
    return list(largest.values())


def spread_token_ids(num_tokens: int, vocab_size: int, device: torch.device) -> torch.Tensor:
    """Token ids for rows that stand for no request: int32 tensor of shape ``[num_tokens]``.

    Equal ids would all be routed to the same experts, and so to one rank: its peak would be the profile of none, and
    idle ranks would load it during serving. vLLM says 0 of a model whose configuration names no vocabulary.
    """
    return (torch.arange(num_tokens, dtype=torch.int64) * TOKEN_STRIDE % max(vocab_size, 1)).to(torch.int32).to(device)
