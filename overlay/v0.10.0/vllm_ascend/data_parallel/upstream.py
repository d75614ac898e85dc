# SPDX-License-Identifier: Apache-2.0
"""What vllm-ascend 0.10.0rc1 does otherwise than the releases of other sets."""

from __future__ import annotations

from typing import Any

# Fewest expert-parallel ranks for which generic MoE layers run MC2, by the name of the AscendSocVersion: none does.
GENERIC_MC2_MIN_EP_SIZE: dict[str, int] = {}

# Whether layers whose state is AllGatherEP exchange their tokens through the all-gather dispatcher.
ALL_GATHER_EP_HAS_DISPATCHER = False

# Whether generic MoE layers look the step's communication up; otherwise each broadcasts its rows to all ranks.
GENERIC_LAYERS_CHOOSE = False

# Whether TorchAir's attention pads a graph's requests beyond the runner's buffers.
TORCHAIR_PADS_REQUESTS = False


def lm_head_parallel() -> bool:
    """Whether the lm head is split over a group of its own; this release cannot."""
    return False


def torchair_splits_rows(soc: str) -> bool:
    """Whether TorchAir's decode rows are split over the tensor-parallel ranks where experts are parallel."""
    del soc  # on every one
    return True


def generic_layers(vllm_config: Any) -> dict[str, bool]:
    """What the choice for generic layers depends on beside SoC, ranks and sizes."""
    del vllm_config  # nothing
    return {}
