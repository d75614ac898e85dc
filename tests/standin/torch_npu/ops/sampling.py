# SPDX-License-Identifier: Apache-2.0
"""Sampling operators."""

from __future__ import annotations

from torch import Tensor

from torch_npu.library import npu_op


@npu_op("npu_top_k_top_p(Tensor logits, Tensor? p, Tensor? k) -> Tensor")
def npu_top_k_top_p(logits: Tensor, p: Tensor | None, k: Tensor | None) -> Tensor:
    """logits [rows, vocabulary], p and k [rows] -> logits with what is outside the k best, then outside the smallest
    set of probability p or more, at -inf."""
    ascending, order = logits.sort(dim=-1)
    if k is not None:
        threshold = ascending.gather(1, (ascending.shape[1] - k.long()).clamp(min=0).unsqueeze(1))
        ascending = ascending.masked_fill(ascending < threshold, float("-inf"))
    if p is not None:
        outside = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p.unsqueeze(1)
        outside[:, -1] = False
        ascending = ascending.masked_fill(outside, float("-inf"))
    return ascending.new_empty(ascending.shape).scatter_(1, order, ascending)
