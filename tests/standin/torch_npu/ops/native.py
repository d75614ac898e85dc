# SPDX-License-Identifier: Apache-2.0
"""Operators of torch itself that take more types on an NPU than on the CPU."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

_histc = torch.histc


@functools.wraps(_histc)
def _histc_of_integers(input: Tensor, bins: int = 100, min: float = 0, max: float = 0, **kwargs: Any) -> Tensor:
    """``torch.histc``, also of integers: counts in the input's type."""
    if input.is_floating_point():
        return _histc(input, bins, min, max, **kwargs)
    return _histc(input.double(), bins, min, max, **kwargs).to(input.dtype)


def install() -> None:
    torch.histc = _histc_of_integers
