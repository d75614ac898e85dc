# SPDX-License-Identifier: Apache-2.0
"""Writes into a paged KV cache, and the layout operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_npu.library import npu_op

FORMAT_ND = 2


def on_310p() -> bool:
    """Whether the chip is a 310P, whose layouts are fractal: the last dimension is split into sixteens."""
    from torch_npu import npu

    return npu.soc_name().startswith("Ascend310P")


def by_token(cache: Tensor) -> Tensor:
    """A view of a paged cache as [blocks, block_size, ...]. A 310P has [blocks, heads * head / 16, block_size, 16]."""
    return cache.permute(0, 2, 1, 3) if on_310p() else cache


@npu_op(
    "_npu_reshape_and_cache(Tensor key, Tensor value, Tensor(a!) key_cache, Tensor(b!) value_cache, Tensor "
    "slot_indices) -> ()",
    reads_data=True,
)
def _npu_reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_indices: Tensor
) -> None:
    """key and value [tokens, heads, head], caches [blocks, block_size, heads, head] or as a 310P has them, slot_indices
    [tokens]; a slot of -1 is skipped."""
    slots = slot_indices[: key.shape[0]].long()
    keep = slots >= 0
    for cache, new in ((key_cache, key), (value_cache, value)):
        tokens = by_token(cache)
        block, offset = slots[keep] // tokens.shape[1], slots[keep] % tokens.shape[1]
        tokens[block, offset] = new[: slots.shape[0]][keep].reshape(-1, *tokens.shape[2:]).to(cache.dtype)


@npu_op("npu_scatter_nd_update_(Tensor(a!) self, Tensor indices, Tensor updates) -> Tensor(a!)")
def npu_scatter_nd_update_(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """data[indices[i]] = updates[i], in place; indices [n, d] addresses the first d dimensions of data.

    A row with an index below 0 is skipped, as TorchAir's attention has it: it makes indices of slots, and those of rows
    that stand for no request are -1.
    """
    rows = updates.reshape(*indices.shape[:-1], *data.shape[indices.shape[-1] :])
    keep = (indices >= 0).all(dim=-1)
    data[tuple(indices[keep].long().unbind(-1))] = rows[keep].to(data.dtype)
    return data


def npu_format_cast(x: Tensor, acl_format: int, *_: Any) -> Tensor:
    """Changes a tensor's private memory layout (2 is ND, 29 FRACTAL_NZ). A CPU tensor has one layout: only the label
    changes."""
    x._npu_format = acl_format  # type: ignore[attr-defined]
    return x


npu_format_cast_ = npu_format_cast


def get_npu_format(x: Tensor) -> int:
    """The label that `npu_format_cast` gave, else ND."""
    return getattr(x, "_npu_format", FORMAT_ND)


@npu_op("npu_prefetch(Tensor self, Tensor? dependency, int max_size, int offset=0) -> ()")
def npu_prefetch(x: Tensor, dependency: Tensor | None, max_size: int, offset: int = 0) -> None:
    """Brings a weight into the device's L2 cache; it has no result."""


def _weak_ref_tensor(input: Tensor) -> Tensor:
    """A tensor on the same memory. vllm-ascend's compiled extension gives one that does not own it; here it does, which
    only holds memory longer."""
    return input.detach()


# The extension's operators are in _C up to vllm-ascend 0.10.1, in _C_ascend after it.
_weak_references = [torch.library.Library(namespace, "FRAGMENT") for namespace in ("_C", "_C_ascend")]
for _library in _weak_references:
    _library.define("weak_ref_tensor(Tensor input) -> Tensor")
    _library.impl("weak_ref_tensor", _weak_ref_tensor, "CompositeExplicitAutograd")
