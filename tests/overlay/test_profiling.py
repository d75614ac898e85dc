# SPDX-License-Identifier: Apache-2.0
"""The profile run covers what serving can choose, and spreads its tokens."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommConfig, mc2_capacity, select_moe_comm
from vllm_ascend.data_parallel.profiling import profile_passes, spread_token_ids

configs = st.builds(
    MoECommConfig,
    soc=st.sampled_from(["A2", "A3", "UNDEFINED"]),
    ep_size=st.sampled_from([1, 2, 16, 64]),
    mc2_capacity=st.sampled_from([256, 512]),
    fused_all_gather_ep=st.booleans(),
)


@given(configs, st.integers(1, 9000), st.integers(1, 2000), st.data())
def test_every_choice_of_serving_is_profiled_at_its_largest_size(
    config: MoECommConfig, max_num_tokens: int, max_decode_tokens: int, data: st.DataObject
) -> None:
    passes = {one.choice: one.num_tokens for one in profile_passes(max_num_tokens, max_decode_tokens, config)}
    with_prefill = data.draw(st.booleans())
    limit = max_num_tokens if with_prefill else min(max_decode_tokens, max_num_tokens)
    num_tokens = data.draw(st.integers(1, limit))
    choice = select_moe_comm(num_tokens, with_prefill, config)
    assert num_tokens <= passes[choice]


def test_the_largest_batch_comes_last_and_mc2_before_it() -> None:
    passes = profile_passes(8192, 256, MoECommConfig("A2", 16, 256))
    assert [(one.num_tokens, one.with_prefill) for one in passes] == [(256, False), (256, True), (8192, True)]
    assert [one.choice.generic for one in passes] == [MoEComm.MC2, MoEComm.MC2, MoEComm.ALL_GATHER]


def test_small_deployments_profile_once_for_each_kind_of_step() -> None:
    passes = profile_passes(64, 8, MoECommConfig("A2", 1, 256))
    assert [(one.num_tokens, one.with_prefill) for one in passes] == [(8, False), (64, True)]


def test_a_compiled_decode_is_not_profiled() -> None:
    passes = profile_passes(8192, 256, MoECommConfig("A2", 16, 256, compiled_decode=True))
    assert all(one.with_prefill for one in passes)


def test_capacity_is_the_kernel_s_rows_times_the_tensor_parallel_size() -> None:
    assert (mc2_capacity("A2", 4), mc2_capacity("A3", 4)) == (1024, 2048)


@given(st.integers(1, 4096), st.integers(8000, 200000))
def test_token_ids_are_valid_and_spread(num_tokens: int, vocab_size: int) -> None:
    ids = spread_token_ids(num_tokens, vocab_size, torch.device("cpu"))
    assert ids.dtype is torch.int32
    assert ids.shape == (num_tokens,)
    assert 0 <= int(ids.min()) <= int(ids.max()) < vocab_size
    if vocab_size % 7919:
        assert len(ids.unique()) == num_tokens
