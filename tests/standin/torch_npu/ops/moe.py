# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts inside one rank: gating, sorting tokens by expert, and putting results back."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu.library import npu_op


def column_major_rows(rows: int, k: int) -> Tensor:
    """[rows, k] int32, counting down the columns: entry (i, j) is i + j * rows."""
    return torch.arange(rows * k, dtype=torch.int32).view(k, rows).t().contiguous()


@npu_op("npu_moe_gating_top_k_softmax(Tensor x, Tensor? finished=None, int k=1) -> (Tensor, Tensor, Tensor)")
def npu_moe_gating_top_k_softmax(
    x: Tensor, finished: Tensor | None = None, k: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """x [rows, experts] -> (weights [rows, k] in x's dtype, experts [rows, k] int32, row indices [rows, k] int32)."""
    weights, experts = torch.softmax(x.float(), dim=-1).topk(k, dim=-1)
    return weights.to(x.dtype), experts.to(torch.int32), column_major_rows(x.shape[0], k)


@npu_op(
    "npu_moe_gating_top_k(Tensor x, int k, *, Tensor? bias=None, int k_group=1, int group_count=1, int "
    "group_select_mode=0, "
    "int renorm=0, int norm_type=0, bool out_flag=False, float routed_scaling_factor=1.0, float eps=1e-20) "
    "-> (Tensor, Tensor, Tensor)"
)
def npu_moe_gating_top_k(
    x: Tensor,
    k: int,
    *,
    bias: Tensor | None = None,
    k_group: int = 1,
    group_count: int = 1,
    group_select_mode: int = 0,
    renorm: int = 0,
    norm_type: int = 0,
    out_flag: bool = False,
    routed_scaling_factor: float = 1.0,
    eps: float = 1e-20,
) -> tuple[Tensor, Tensor, Tensor]:
    """DeepSeek-V3's gate: x [rows, experts] -> (weights [rows, k], experts [rows, k] int32, scores [rows, experts]).

    Scores are softmax (norm_type 0) or sigmoid (1). `k_group` of `group_count` groups stay, ranked by their maximum
    (group_select_mode 0) or the sum of their best two (1), with `bias` added for choosing only. Sigmoid weights are
    normalised to sum to 1.
    """
    scores = torch.softmax(x.float(), dim=-1) if norm_type == 0 else torch.sigmoid(x.float())
    choice = scores if bias is None else scores + bias.float()
    grouped = choice.view(x.shape[0], group_count, -1)
    rank = grouped.amax(dim=-1) if group_select_mode == 0 else grouped.topk(2, dim=-1).values.sum(dim=-1)
    kept = torch.zeros_like(rank, dtype=torch.bool).scatter_(1, rank.topk(k_group, dim=-1).indices, True)
    choice = grouped.masked_fill(~kept.unsqueeze(-1), float("-inf")).view_as(choice)
    experts = choice.topk(k, dim=-1).indices
    weights = scores.gather(1, experts)
    if norm_type == 1 or renorm == 1:
        weights = weights / (weights.sum(dim=-1, keepdim=True) + eps)
    return (weights * routed_scaling_factor).to(x.dtype), experts.to(torch.int32), scores


@npu_op(
    "npu_moe_init_routing(Tensor x, Tensor row_idx, Tensor expert_idx, int active_num=99) -> (Tensor, Tensor, Tensor)"
)
def npu_moe_init_routing(
    x: Tensor, row_idx: Tensor, expert_idx: Tensor, active_num: int = 99
) -> tuple[Tensor, Tensor, Tensor]:
    """Sorts token copies by expert: x [rows, h], row_idx and expert_idx [rows, k] ->
    (x of each copy [min(rows, active_num) * k, h], place of each copy [rows * k] int32, sorted experts [rows * k]
    int32). A copy's number is its value in row_idx."""
    rows, k = expert_idx.shape
    sorted_experts, order = torch.sort(expert_idx.flatten(), stable=True)
    copies = row_idx.flatten()[order].long()
    places = torch.empty_like(copies)
    places[copies] = torch.arange(copies.numel())
    expanded = x[copies % rows][: min(rows, active_num) * k]
    return expanded, places.to(torch.int32), sorted_experts.to(torch.int32)


@npu_op("npu_moe_compute_expert_tokens(Tensor sorted_expert_for_source_row, int num_expert) -> Tensor")
def npu_moe_compute_expert_tokens(sorted_experts: Tensor, num_expert: int) -> Tensor:
    """Sorted experts [copies] -> the end row of each expert [num_expert] int32."""
    return torch.searchsorted(
        sorted_experts.contiguous(), torch.arange(num_expert, dtype=sorted_experts.dtype), right=True
    ).to(torch.int32)


@npu_op(
    "npu_moe_finalize_routing(Tensor expanded_permuted_rows, Tensor? skip1, Tensor? skip2, Tensor? bias, "
    "Tensor? scales, "
    "Tensor expanded_src_to_dst_row, Tensor? export_for_source_row, int? drop_pad_mode=0) -> Tensor"
)
def npu_moe_finalize_routing(
    rows: Tensor,
    skip1: Tensor | None,
    skip2: Tensor | None,
    bias: Tensor | None,
    scales: Tensor | None,
    places: Tensor,
    experts: Tensor | None,
    drop_pad_mode: int | None = 0,
) -> Tensor:
    """Adds up each token's copies: rows [copies, h], scales [tokens, k], places [tokens * k] -> [tokens, h].

    Copy j of token i has number i + j * tokens (drop_pad_mode 0) or i * k + j (2); `places` gives its row. bias
    [experts, h] is added by expert before scaling, skip1 and skip2 [tokens, h] at the end.
    """
    k = scales.shape[1] if scales is not None else 1
    tokens = places.numel() // k
    by_token = places.view(tokens, k) if drop_pad_mode == 2 else places.view(k, tokens).t()
    copies = rows[by_token.long()]
    if bias is not None and experts is not None:
        copies = copies + bias[experts.long()]
    if scales is not None:
        copies = copies * scales.unsqueeze(-1).to(copies.dtype)
    total = copies.sum(dim=1)
    for skip in (skip1, skip2):
        if skip is not None:
            total = total + skip
    return total


@npu_op(
    "npu_moe_init_routing_v2(Tensor x, Tensor expert_idx, *, Tensor? scale=None, Tensor? offset=None, int "
    "active_num=-1, "
    "int expert_capacity=-1, int expert_num=-1, int drop_pad_mode=0, int expert_tokens_num_type=0, "
    "bool expert_tokens_num_flag=False, int quant_mode=0, int[2] active_expert_range=[], int row_idx_type=0) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
def npu_moe_init_routing_v2(
    x: Tensor,
    expert_idx: Tensor,
    *,
    scale: Tensor | None = None,
    offset: Tensor | None = None,
    active_num: int = -1,
    expert_capacity: int = -1,
    expert_num: int = -1,
    drop_pad_mode: int = 0,
    expert_tokens_num_type: int = 0,
    expert_tokens_num_flag: bool = False,
    quant_mode: int = 0,
    active_expert_range: list[int] | None = None,
    row_idx_type: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sorts token copies by expert, those of experts outside `active_expert_range` last: x [rows, h], expert_idx
    [rows, k] -> (x of each copy [rows * k, h], place of copy i * k + j [rows * k] int32, counts or ends per active
    expert int64, scale of each copy [rows * k]). Inactive copies have place -1 and rows of zero; a device leaves
    those rows undefined.
    """
    if quant_mode != -1 or drop_pad_mode != 0 or expert_tokens_num_type not in (0, 1):
        raise NotImplementedError("npu_moe_init_routing_v2: only without quantisation, dropping and key-value counts")
    rows, k = expert_idx.shape
    first, last = active_expert_range or (0, expert_num)
    flat = expert_idx.flatten().long()
    active = (flat >= first) & (flat < last)
    order = torch.argsort(torch.where(active, flat, last), stable=True)
    is_active = active[order]
    counts = torch.zeros(last - first + 1, dtype=torch.int64)
    counts.scatter_add_(0, torch.where(active, flat - first, last - first), torch.ones_like(flat))
    tokens = counts[:-1].cumsum(0) if expert_tokens_num_type == 0 else counts[:-1].clone()
    expanded = torch.where(is_active.unsqueeze(-1), x[order // k], torch.zeros((), dtype=x.dtype))
    if row_idx_type == 1:
        places = torch.where(is_active, order, torch.full_like(order, -1))
    else:
        places = torch.empty_like(order)
        places[order] = torch.arange(order.numel())
        places = torch.where(active, places, torch.full_like(places, -1))
    scales = scale.flatten()[order // k].float() if scale is not None else torch.zeros(rows * k)
    return expanded, places.to(torch.int32), tokens, scales


@npu_op(
    "npu_moe_token_permute(Tensor tokens, Tensor indices, int? num_out_tokens=None, bool padded_mode=False) -> "
    "(Tensor, Tensor)"
)
def npu_moe_token_permute(
    tokens: Tensor, indices: Tensor, num_out_tokens: int | None = None, padded_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """tokens [n, h], indices [n, k] or [n] -> (token copies sorted by index [n * k, h], place of copy i * k + j [n *
    k] int32)."""
    k = indices.shape[1] if indices.dim() == 2 else 1
    order = torch.argsort(indices.flatten(), stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(order.numel())
    kept = order[:num_out_tokens] if num_out_tokens else order
    return tokens[kept // k], places.to(torch.int32)


@npu_op(
    "npu_moe_token_unpermute(Tensor permuted_tokens, Tensor sorted_indices, Tensor? probs=None, bool "
    "padded_mode=False, "
    "int[]? restore_shape=None) -> Tensor"
)
def npu_moe_token_unpermute(
    permuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: list[int] | None = None,
) -> Tensor:
    """Adds up each token's copies, weighted by probs [n, k] (k is 1 without): permuted_tokens [m, h], place of copy i
    * k + j [n * k] -> [n, h]. A negative place is a copy that is not here."""
    k = probs.shape[1] if probs is not None else 1
    places = sorted_indices.flatten().long()
    copies = torch.where(
        (places >= 0).unsqueeze(-1), permuted_tokens[places.clamp(min=0)], torch.zeros((), dtype=permuted_tokens.dtype)
    )
    copies = copies.view(-1, k, permuted_tokens.shape[-1])
    if probs is not None:
        copies = copies * probs.unsqueeze(-1).to(copies.dtype)
    return copies.sum(dim=1)


@npu_op("_npu_group_topk(Tensor(a!) self, int group_num, int k, int n=1) -> ()")
def _npu_group_topk(scores: Tensor, group_num: int, k: int, n: int = 1) -> None:
    """Keeps the k best of group_num groups of scores [rows, experts], by the sum of their best n, and zeroes the rest
    in place."""
    grouped = scores.view(scores.shape[0], group_num, -1)
    rank = grouped.topk(n, dim=-1).values.sum(dim=-1)
    kept = torch.zeros_like(rank, dtype=torch.bool).scatter_(1, rank.topk(k, dim=-1).indices, True)
    grouped.masked_fill_(~kept.unsqueeze(-1), 0)
