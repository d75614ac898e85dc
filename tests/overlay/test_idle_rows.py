# SPDX-License-Identifier: Apache-2.0
"""Rows that stand for no request: no slot, no block, and experts of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_ascend.data_parallel.idle_rows import forget_requests, pad_router_logits, spread_token_ids


def test_no_row_has_a_slot_or_a_block_of_a_request() -> None:
    tables = [
        SimpleNamespace(
            slot_mapping=SimpleNamespace(gpu=torch.arange(100, 108)),
            block_table=SimpleNamespace(gpu=torch.full((4, 3), 7)),
        )
        for _ in range(2)
    ]
    forget_requests(tables)
    for table in tables:
        assert table.slot_mapping.gpu.tolist() == [-1] * 8
        assert not table.block_table.gpu.any()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_are_unlike_and_of_the_vocabulary(dtype: torch.dtype) -> None:
    ids = torch.zeros(200, dtype=dtype)
    spread_token_ids(ids[:150], 256)
    assert len(set(ids[:150].tolist())) == 150
    assert int(ids.min()) >= 0 and int(ids.max()) < 256
    assert not ids[150:].any(), "rows beyond are another's"


def test_a_model_whose_configuration_names_no_vocabulary_gets_zeros() -> None:
    ids = torch.full((5,), 7)
    spread_token_ids(ids, 0)  # what vLLM says of one
    assert not ids.any()


@pytest.mark.parametrize("experts", [8, 16, 60, 128, 256])
@pytest.mark.parametrize("k", [2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_goes_to_all_experts_alike(experts: int, k: int, dtype: torch.dtype) -> None:
    logits = torch.randn(5, experts, dtype=dtype)
    padded = pad_router_logits(logits, 10 * experts)
    assert torch.equal(padded[:5], logits)
    assert padded.shape == (5 + 10 * experts, experts) and padded.isfinite().all()
    for scores in (padded[5:].float().softmax(-1), padded[5:].float().sigmoid(), padded[5:].float()):
        counts = torch.bincount(scores.topk(k).indices.flatten(), minlength=experts)
        assert counts.max() <= 20 * k, "twice an even share of 10 k"
