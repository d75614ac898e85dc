# SPDX-License-Identifier: Apache-2.0
"""What the memory profile runs, so that it sees every communication method that serving can choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vllm_ascend.data_parallel.moe_comm import MoECommChoice, MoECommConfig, select_moe_comm

# A prime far from the powers of two that vocabularies and expert counts are made of: neighbours get unlike tokens.
TOKEN_STRIDE = 7919


@dataclass(frozen=True)
class ProfilePass:
    """One forward of the profile run: ``num_tokens`` rows on every rank, and the choice that they lead to."""

    num_tokens: int
    with_prefill: bool
    choice: MoECommChoice


def profile_passes(max_num_tokens: int, max_decode_tokens: int, config: MoECommConfig) -> list[ProfilePass]:
    """For every choice that serving can make, the largest batch that leads to it; the largest of all last.

    ``max_num_tokens`` is the largest batch of any kind and ``max_decode_tokens`` the largest of decodes, both in rows
    of one rank. A compiled decode is left out: TorchAir compiles it after profiling, from buffers sized then.
    """
    sizes = [(max_num_tokens, True), (min(config.mc2_capacity, max_num_tokens), True)]
    if not config.compiled_decode:
        decode = min(max_decode_tokens, max_num_tokens)
        sizes += [(decode, False), (min(config.mc2_capacity, decode), False)]
    largest: dict[MoECommChoice, ProfilePass] = {}
    for num_tokens, with_prefill in sizes:
        if num_tokens > 0:
            choice = select_moe_comm(num_tokens, with_prefill, config)
            known = largest.get(choice)
            if known is None or known.num_tokens < num_tokens:
                largest[choice] = ProfilePass(num_tokens, with_prefill, choice)
    return sorted(largest.values(), key=lambda one: (one.num_tokens, one.with_prefill))


def spread_token_ids(num_tokens: int, vocab_size: int, device: torch.device) -> torch.Tensor:
    """Token ids for rows that stand for no request: int32 tensor of shape ``[num_tokens]``.

    Equal ids would all be routed to the same experts, and so to one rank: its peak would be the profile of none, and
    idle ranks would load it during serving.
    """
    return (torch.arange(num_tokens, dtype=torch.int64) * TOKEN_STRIDE % vocab_size).to(torch.int32).to(device)
