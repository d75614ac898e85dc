# SPDX-License-Identifier: Apache-2.0
"""The three ways of upstream from tokens to experts and back, against a loop over tokens."""

import pytest
import torch
import torch_npu
from torch import Tensor

TOKENS, HIDDEN, EXPERTS, K = 7, 4, 6, 2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def routed() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [tokens, hidden], weights [tokens, k], experts [tokens, k], one matrix an expert."""
    weights, experts, _ = torch_npu.npu_moe_gating_top_k_softmax(torch.randn(TOKENS, EXPERTS), None, K)
    return torch.randn(TOKENS, HIDDEN), weights, experts, torch.randn(EXPERTS, HIDDEN, HIDDEN)


def _loop(x: Tensor, weights: Tensor, experts: Tensor, matrices: Tensor, keep: range = range(EXPERTS)) -> Tensor:
    out = torch.zeros_like(x)
    for token in range(TOKENS):
        for place in range(K):
            expert = int(experts[token, place])
            if expert in keep:
                out[token] += weights[token, place] * (x[token] @ matrices[expert])
    return out


def _apply(rows: Tensor, matrices: Tensor, group_list: Tensor, kind: int) -> Tensor:
    return torch_npu.npu_grouped_matmul(
        x=[rows], weight=[matrices], split_item=2, group_list_type=kind, group_type=0, group_list=group_list
    )[0]


def test_gate() -> None:
    logits = torch.randn(TOKENS, EXPERTS)
    weights, experts, rows = torch_npu.npu_moe_gating_top_k_softmax(x=logits, finished=None, k=K)
    want = logits.softmax(-1).topk(K)
    torch.testing.assert_close(weights, want.values)
    assert torch.equal(experts.long(), want.indices)
    assert rows[2, 1] == 2 + TOKENS


def test_init_and_finalize(routed: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    x, weights, experts, matrices = routed
    row_idx = torch.arange(TOKENS * K, dtype=torch.int32).view(K, -1).T.contiguous()
    rows, places, sorted_experts = torch_npu.npu_moe_init_routing(x, row_idx, experts, TOKENS)
    ends = torch_npu.npu_moe_compute_expert_tokens(sorted_experts, EXPERTS)
    assert ends.tolist() == [int((experts <= expert).sum()) for expert in range(EXPERTS)]
    out = torch_npu.npu_moe_finalize_routing(
        _apply(rows, matrices, ends, 0), skip1=None, skip2=None, bias=None, scales=weights,
        expanded_src_to_dst_row=places, export_for_source_row=experts,
    )  # fmt: skip
    torch.testing.assert_close(out, _loop(x, weights, experts, matrices))


@pytest.mark.parametrize("local", [range(EXPERTS), range(2, 5)])
def test_init_v2_and_unpermute(routed: tuple[Tensor, Tensor, Tensor, Tensor], local: range) -> None:
    x, weights, experts, matrices = routed
    rows, places, counts, _ = torch_npu.npu_moe_init_routing_v2(
        x, experts, active_num=TOKENS * K, expert_num=EXPERTS, expert_tokens_num_type=1, expert_tokens_num_flag=True,
        active_expert_range=[local.start, local.stop], quant_mode=-1,
    )  # fmt: skip
    assert counts.tolist() == [int((experts == expert).sum()) for expert in local]
    here = matrices[local.start : local.stop]
    out = torch_npu.npu_moe_token_unpermute(_apply(rows, here, counts, 1), places, probs=weights)
    torch.testing.assert_close(out, _loop(x, weights, experts, matrices, local))


def test_permute_and_unpermute(routed: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    x, weights, experts, matrices = routed
    rows, places = torch_npu.npu_moe_token_permute(tokens=x, indices=experts, num_out_tokens=TOKENS * K)
    counts = torch.histc(experts, bins=EXPERTS, min=0, max=EXPERTS)
    assert counts.dtype == torch.int32
    out = torch_npu.npu_moe_token_unpermute(
        permuted_tokens=_apply(rows, matrices, counts, 1), sorted_indices=places, probs=weights, restore_shape=x.shape
    )
    torch.testing.assert_close(out, _loop(x, weights, experts, matrices))


def test_rows_outside_the_groups_are_zero() -> None:
    out = _apply(torch.ones(4, 3), torch.ones(2, 3, 5), torch.tensor([1, 3]), 0)
    assert out.sum(-1).tolist() == [15, 15, 15, 0]


def test_grouped_gate() -> None:
    logits, bias = torch.randn(TOKENS, 8), torch.randn(8)
    weights, experts, _ = torch_npu.npu_moe_gating_top_k(
        logits, k=2, bias=bias, k_group=2, group_count=4, group_select_mode=1, renorm=0, norm_type=1
    )
    scores = logits.sigmoid()
    for token in range(TOKENS):
        biased = scores[token] + bias
        best = sorted(range(4), key=lambda g, b=biased: -float(b[2 * g : 2 * g + 2].sum()))[:2]
        allowed = [e for g in best for e in (2 * g, 2 * g + 1)]
        want = sorted(allowed, key=lambda e, b=biased: -float(b[e]))[:2]
        assert experts[token].tolist() == want
        torch.testing.assert_close(weights[token], scores[token, want] / scores[token, want].sum())
