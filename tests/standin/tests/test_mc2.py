# SPDX-License-Identifier: Apache-2.0
"""MC2 between three ranks, against a loop over tokens."""

from typing import Any

from ranks import found_by

RANKS, TOKENS, HIDDEN, EXPERTS, K = 3, 5, 4, 6, 2


def _group(rank: int, port: int) -> dict[str, Any]:
    """Makes the group of all ranks; what MC2's operators are told of it."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("hccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    return {
        "group_ep": dist.group.WORLD._get_backend(torch.device("npu")).get_hccl_comm_name(rank),
        "ep_world_size": RANKS,
        "ep_rank_id": rank,
        "moe_expert_num": EXPERTS,
    }


def _rank(rank: int, port: int, queue: Any) -> None:
    import torch
    import torch.distributed as dist
    import torch_npu

    group = _group(rank, port)
    torch.manual_seed(0)
    matrices = torch.randn(EXPERTS, HIDDEN, HIDDEN)
    torch.manual_seed(1 + rank)
    x, logits = torch.randn(TOKENS, HIDDEN), torch.randn(TOKENS, EXPERTS)
    weights, experts = logits.softmax(dim=1).topk(K)
    wanted = torch.stack(
        [sum(weights[i, j] * (x[i] @ matrices[experts[i, j]]) for j in range(K)) for i in range(TOKENS)]
    )
    found = []
    for kind in (0, 1):  # end rows, counts
        copies, _, sources, per_expert, counts, _, _ = torch_npu.npu_moe_distribute_dispatch(
            x=x, expert_ids=experts.to(torch.int32), expert_token_nums_type=kind, **group
        )
        own = matrices.view(RANKS, -1, HIDDEN, HIDDEN)[rank]
        done = torch_npu.npu_grouped_matmul(
            x=[copies], weight=[own], split_item=2, group_list_type=kind, group_type=0, group_list=per_expert
        )[0]
        out = torch_npu.npu_moe_distribute_combine(
            expand_x=done,
            expert_ids=experts.to(torch.int32),
            expand_idx=sources,
            ep_send_counts=counts,
            expert_scales=weights,
            **group,
        )
        found.append(float((out - wanted).abs().max()))
    queue.put((rank, found))
    dist.destroy_process_group()


def _rank_with_other_rows(rank: int, port: int, queue: Any) -> None:
    """Rank r brings r + 1 rows, of which the last one is hidden where there is a mask; expert e multiplies by e + 1."""
    import torch
    import torch.distributed as dist
    import torch_npu

    group = _group(rank, port)
    found = []
    for unequal in (True, False):
        rows = rank + 1 if unequal else TOKENS
        how: dict[str, Any] = {"global_bs": RANKS * TOKENS} if unequal else {"x_active_mask": torch.arange(rows) < rank}
        x = torch.arange(rows * HIDDEN, dtype=torch.float32).view(rows, HIDDEN) + rank
        experts = ((torch.arange(rows) + rank) % EXPERTS).to(torch.int32).unsqueeze(1)
        copies, _, sources, ends, counts, _, _ = torch_npu.npu_moe_distribute_dispatch(
            x=x, expert_ids=experts, expert_token_nums_type=0, **group, **how
        )
        held = int((sources >= 0).sum())
        first = rank * (EXPERTS // RANKS)
        factors = torch.searchsorted(ends, torch.arange(held), right=True) + first + 1
        copies[:held] *= factors.unsqueeze(1)
        out = torch_npu.npu_moe_distribute_combine(
            expand_x=copies,
            expert_ids=experts,
            expand_idx=sources,
            ep_send_counts=counts,
            expert_scales=torch.ones(rows, 1),
            **group,
            **how,
        )
        active = torch.ones(rows, 1) if unequal else (torch.arange(rows) < rank).float().unsqueeze(1)
        found.append(float((out - x * (experts + 1) * active).abs().max()))
        found.append(held)
    queue.put((rank, found))
    dist.destroy_process_group()


def test_ranks_may_bring_unlike_rows_or_hide_some() -> None:
    found = found_by(_rank_with_other_rows, RANKS)
    assert all(found[rank][0] == found[rank][2] == 0.0 for rank in range(RANKS)), found
    assert sum(found[rank][1] for rank in range(RANKS)) == 1 + 2 + 3, "each row once"
    assert sum(found[rank][3] for rank in range(RANKS)) == 0 + 1 + 2, "none that is hidden"


def test_each_token_meets_its_experts() -> None:
    found = found_by(_rank, RANKS)
    assert all(max(found[rank]) < 1e-5 for rank in range(RANKS)), found
