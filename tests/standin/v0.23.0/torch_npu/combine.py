# SPDX-License-Identifier: Apache-2.0
"""MC2's combine, which in torch_npu 2.10 also takes a mode of quantisation for the exchange; 0 is none."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torch_npu.ops import mc2


def npu_moe_distribute_combine(*arguments: Any, comm_quant_mode: int = 0, **named: Any) -> Tensor:
    """The shared operator.

    Raises NotImplementedError for an exchange that is quantised.
    """
    if comm_quant_mode:
        raise NotImplementedError(f"MC2: an exchange that is quantised, mode {comm_quant_mode}")
    combined: Tensor = mc2.npu_moe_distribute_combine(*arguments, **named)
    return combined
