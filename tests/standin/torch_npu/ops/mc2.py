# SPDX-License-Identifier: Apache-2.0
"""MC2: dispatch and combine, which fuse the exchange of tokens between expert-parallel ranks with their sorting by
expert.

Shapes depend on the number of rows alone, as a captured graph needs: what a rank receives is padded to the most that
could be routed to it. With ``global_bs=0`` every rank must bring the same number of rows, else up to their share of it;
no kernel takes more than its limit. A row that ``x_active_mask`` hides is sent to nobody, and comes back as zeros.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from torch_npu import collectives
from torch_npu.library import npu_op
from torch_npu.ops.matmul import CUMULATIVE

# Rows of one rank that the kernels take, by the first SoC number of the family (CANN's documented range of BS).
_ROW_LIMITS = {220: 256, 250: 512}

_DISPATCH = (
    "npu_moe_distribute_dispatch(Tensor x, Tensor expert_ids, str group_ep, int ep_world_size, int ep_rank_id, "
    "int moe_expert_num, "
    '*, Tensor? scales=None, Tensor? x_active_mask=None, str group_tp="", int tp_world_size=0, int tp_rank_id=0, '
    "int expert_shard_type=0, int shared_expert_num=1, int shared_expert_rank_num=0, int quant_mode=0, int "
    "global_bs=0, "
    "int expert_token_nums_type=1) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_COMBINE = (
    "npu_moe_distribute_combine(Tensor expand_x, Tensor expert_ids, Tensor expand_idx, Tensor ep_send_counts, "
    "Tensor expert_scales, str group_ep, int ep_world_size, int ep_rank_id, int moe_expert_num, *, Tensor? "
    "tp_send_counts=None, Tensor? expand_scales=None, "
    'Tensor? x_active_mask=None, str group_tp="", int tp_world_size=0, int tp_rank_id=0, int expert_shard_type=0, '
    "int shared_expert_num=1, int shared_expert_rank_num=0, int global_bs=0) -> Tensor"
)


def _row_limit() -> int:
    from torch_npu.npu import get_soc_version

    limit = [rows for first, rows in _ROW_LIMITS.items() if first <= get_soc_version() <= first + 5]
    if not limit:
        raise RuntimeError(f"there are no MC2 kernels on the SoC with number {get_soc_version()}")
    return limit[0]


def _share(rows: int, global_bs: int, ranks: int) -> int:
    """Rows that each rank has room for."""
    share = global_bs // ranks if global_bs else rows
    if rows > share:
        raise RuntimeError(f"MC2: {rows} rows, and global_bs={global_bs} has room for {share} of each of {ranks} ranks")
    return share


def _exchange(op: str, parts: Tensor, group_name: str) -> Tensor:
    """parts [ranks, n]: row r goes to rank r; [ranks, n] of what each rank sent here."""
    backend = collectives.group_by_name(group_name)
    if collectives.on_collective is not None:
        collectives.on_collective(op, parts, _group_of(backend), False)
    received = torch.empty_like(parts)
    backend.alltoall_base(received, parts.contiguous(), [], []).wait()
    return received


def _group_of(backend: Any) -> Any:
    groups = dist.distributed_c10d._world.pg_map
    return next((group for group in groups if _is_backend(group, backend)), None)


def _is_backend(group: Any, backend: Any) -> bool:
    return dist.get_backend(group) == "hccl" and group._get_backend(torch.device("cpu")) is backend


@npu_op(_DISPATCH, reads_data=True)
def npu_moe_distribute_dispatch(
    x: Tensor,
    expert_ids: Tensor,
    group_ep: str,
    ep_world_size: int,
    ep_rank_id: int,
    moe_expert_num: int,
    *,
    scales: Tensor | None = None,
    x_active_mask: Tensor | None = None,
    group_tp: str = "",
    tp_world_size: int = 0,
    tp_rank_id: int = 0,
    expert_shard_type: int = 0,
    shared_expert_num: int = 1,
    shared_expert_rank_num: int = 0,
    quant_mode: int = 0,
    global_bs: int = 0,
    expert_token_nums_type: int = 1,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sends each token to the ranks that hold its experts: x [bs, h], expert_ids [bs, k] ->
    (token copies sorted by local expert [n, h], scales, source of each copy [n] int32, tokens per local expert int64,
    and three vectors that only `combine` of a device needs). n is ranks * share * min(k, local experts), where share is
    bs or a rank's part of global_bs; a copy's source is (rank * share + token) * k + place, and -1 marks rows that hold
    none. With expert_token_nums_type 0 the tokens per expert are summed up, to the end row of each expert's (CANN,
    aclnnMoeDistributeDispatch).

    Raises RuntimeError for more rows than the kernel of the SoC takes.
    """
    if quant_mode or scales is not None or shared_expert_rank_num or tp_world_size > 1:
        raise NotImplementedError("MC2: only without quantisation, shared-expert ranks and tensor-parallel groups")
    rows, k = expert_ids.shape
    if not 0 < rows <= _row_limit():
        raise RuntimeError(f"npu_moe_distribute_dispatch: {rows} rows, the kernel takes 1 to {_row_limit()}")
    local = moe_expert_num // ep_world_size
    first = ep_rank_id * local
    share = _share(rows, global_bs, ep_world_size)
    active = torch.ones(rows, dtype=torch.bool) if x_active_mask is None else x_active_mask[:rows]
    sent_to = torch.where(active.unsqueeze(1), expert_ids.double(), -1.0)
    payload = torch.full((share, x.shape[1] + k), -1.0, dtype=torch.double)
    payload[:rows] = torch.cat([x.double(), sent_to], dim=1)
    received = _exchange("mc2_dispatch", payload.reshape(1, -1).expand(ep_world_size, -1), group_ep)
    received = received.view(ep_world_size * share, -1)
    everyone, experts = received[:, : x.shape[1]].to(x.dtype), received[:, x.shape[1] :].long().flatten()
    here = (experts >= first) & (experts < first + local)
    order = torch.argsort(torch.where(here, experts, moe_expert_num), stable=True)[: int(here.sum())]
    padded = ep_world_size * share * min(k, local)
    copies = x.new_zeros(padded, x.shape[1])
    copies[: order.numel()] = everyone[order // k]
    sources = torch.full((padded,), -1, dtype=torch.int32)
    sources[: order.numel()] = order.to(torch.int32)
    per_expert = torch.bincount(experts[here] - first, minlength=local)
    if expert_token_nums_type == CUMULATIVE:
        per_expert = per_expert.cumsum(0)
    return (
        copies,
        x.new_zeros(padded, dtype=torch.float32),
        sources,
        per_expert,
        torch.zeros(moe_expert_num, dtype=torch.int32),
        torch.zeros(1),
        torch.zeros(1),
    )


@npu_op(_COMBINE, reads_data=True)
def npu_moe_distribute_combine(
    expand_x: Tensor,
    expert_ids: Tensor,
    expand_idx: Tensor,
    ep_send_counts: Tensor,
    expert_scales: Tensor,
    group_ep: str,
    ep_world_size: int,
    ep_rank_id: int,
    moe_expert_num: int,
    *,
    tp_send_counts: Tensor | None = None,
    expand_scales: Tensor | None = None,
    x_active_mask: Tensor | None = None,
    group_tp: str = "",
    tp_world_size: int = 0,
    tp_rank_id: int = 0,
    expert_shard_type: int = 0,
    shared_expert_num: int = 1,
    shared_expert_rank_num: int = 0,
    global_bs: int = 0,
) -> Tensor:
    """Sends every copy back and adds up each token's: what `dispatch` gave, after the experts, [n, h], and
    expert_scales [bs, k] -> [bs, h]."""
    rows, k = expert_ids.shape
    held = expand_idx >= 0
    share = _share(rows, global_bs, ep_world_size)
    answers = expand_x.new_zeros(ep_world_size * share * k, expand_x.shape[1])
    answers[expand_idx[held].long()] = expand_x[held]
    received = _exchange("mc2_combine", answers.view(ep_world_size, -1), group_ep)
    copies = received.sum(dim=0).view(share, k, -1)[:rows]
    return (copies * expert_scales.unsqueeze(-1).to(copies.dtype)).sum(dim=1)
