# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and expected tokens by transformers 5, which keeps a layer's experts in parameters of three dimensions.

It computes them by a product of groups unless told otherwise, which has no float64 on a CPU; one by one has. What it
saves has each expert's matrices by themselves, as before.
"""

import math
from collections.abc import Callable
from typing import Any

import checkpoints
import lead
import reference

_ONE_BY_ONE = "eager"


def install() -> None:
    """Has the shared modules make models of transformers 5."""
    checkpoints._route_by_token = _with_experts_drawn(checkpoints._route_by_token)
    reference.in_float64 = lead.in_float64 = in_float64


def in_float64(net: Any) -> Any:
    """``net``, whose weights and sums are float64 from here on."""
    net.config._experts_implementation = _ONE_BY_ONE
    return net.eval().double()


def _with_experts_drawn(route_by_token: Callable[..., None]) -> Callable[..., None]:
    def call(net: Any, experts: int, generator: Any) -> None:
        """Draws the experts as the matrices of a layer are, and has the token decide which of them it takes."""
        net.config._experts_implementation = _ONE_BY_ONE
        fused = [(name, tensor) for name, tensor in net.named_parameters() if tensor.ndim == 3]
        for _, tensor in fused:
            tensor.normal_(0.0, 2.0 / math.sqrt(tensor.shape[-1]), generator=generator)
        route_by_token(net, experts, generator)
        for name, tensor in fused:
            if name.endswith("down_proj"):
                tensor[:, :experts] = 0.0

    return call
