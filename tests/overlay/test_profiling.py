# SPDX-License-Identifier: Apache-2.0
"""The profile run covers what serving can choose, and spreads its tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm.model_executor.layers.fused_moe import FusedMoE

from vllm_ascend import utils
from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommConfig, mc2_capacity, select_moe_comm
from vllm_ascend.data_parallel.profiling import MoEFamilies, profile_passes, spread_token_ids

DENSE, GENERIC, CUSTOM, BOTH = (
    MoEFamilies(*has) for has in ((False, False), (True, False), (False, True), (True, True))
)

configs = st.builds(
    MoECommConfig,
    soc=st.sampled_from(["A2", "A3", "UNDEFINED"]),
    ep_size=st.sampled_from([1, 2, 16, 64]),
    mc2_capacity=st.sampled_from([256, 512]),
    fused_all_gather_ep=st.booleans(),
)


@given(configs, st.integers(1, 9000), st.integers(1, 2000), st.sampled_from([DENSE, GENERIC, CUSTOM, BOTH]), st.data())
def test_every_choice_of_serving_is_profiled_at_its_largest_size(
    config: MoECommConfig, max_num_tokens: int, max_decode_tokens: int, families: MoEFamilies, data: st.DataObject
) -> None:
    passes = profile_passes(max_num_tokens, max_decode_tokens, config, families)
    rows = {families.seen_in(one.choice): one.num_tokens for one in passes}
    with_prefill = data.draw(st.booleans())
    limit = max_num_tokens if with_prefill else min(max_decode_tokens, max_num_tokens)
    num_tokens = data.draw(st.integers(1, limit))
    choice = select_moe_comm(num_tokens, with_prefill, config)
    assert num_tokens <= rows[families.seen_in(choice)]
    assert len(rows) == len(passes), "two passes that the layers cannot tell from each other"
    assert (passes[0].num_tokens, passes[0].with_prefill) == (max_num_tokens, True), "Dynamo traces upstream's pass"


def test_the_largest_batch_comes_first_and_mc2_after_it() -> None:
    passes = profile_passes(8192, 256, MoECommConfig("A2", 16, 256), BOTH)
    assert [(one.num_tokens, one.with_prefill) for one in passes] == [(8192, True), (256, True), (256, False)]
    assert [one.choice.generic for one in passes] == [MoEComm.ALL_GATHER, MoEComm.MC2, MoEComm.MC2]


def test_small_deployments_profile_once_for_each_kind_of_step_that_a_layer_can_tell() -> None:
    config = MoECommConfig("A2", 1, 256)
    rows = {
        families: [(one.num_tokens, one.with_prefill) for one in profile_passes(64, 8, config, families)]
        for families in (DENSE, GENERIC, CUSTOM)
    }
    assert rows == {DENSE: [(64, True)], GENERIC: [(64, True)], CUSTOM: [(64, True), (8, False)]}


def test_a_compiled_decode_is_not_profiled() -> None:
    passes = profile_passes(8192, 256, MoECommConfig("A2", 16, 256, compiled_decode=True), BOTH)
    assert all(one.with_prefill for one in passes)


class Layer(FusedMoE):  # type: ignore[misc]
    """A generic layer, with nothing but its type."""

    def __init__(self, quant_config: object = None) -> None:
        torch.nn.Module.__init__(self)
        self.quant_config = quant_config


class CustomLayer(Layer):
    __module__ = "vllm_ascend.ops.fused_moe"


def test_families_are_those_of_the_layers_of_target_and_drafter() -> None:
    dense, generic, custom, quantised = (
        torch.nn.ModuleList([torch.nn.Linear(2, 2), *layers])
        for layers in ((), (Layer(),), (CustomLayer(),), (Layer(1),))
    )
    assert MoEFamilies.of(dense, None) == DENSE
    assert MoEFamilies.of(generic, None) == GENERIC
    assert MoEFamilies.of(custom, dense) == CUSTOM
    assert MoEFamilies.of(dense, custom) == CUSTOM
    assert MoEFamilies.of(generic, custom) == BOTH
    assert MoEFamilies.of(quantised, None) == BOTH


def test_capacity_is_the_kernel_s_rows_times_the_tensor_parallel_size() -> None:
    assert (mc2_capacity("A2", 4), mc2_capacity("A3", 4)) == (1024, 2048)


def test_a_setting_gives_mc2_as_many_rows_as_upstream_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ASCEND_DP_MC2_ROWS", "512")
    assert (mc2_capacity("A2", 4), mc2_capacity("UNDEFINED", 1)) == (2048, 512)


def test_an_a2_that_sends_within_hosts_first_has_more_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "is_hierarchical_communication_enabled", lambda: True, raising=False)  # from 0.11.0 on
    assert (mc2_capacity("A2", 1), mc2_capacity("A3", 1)) == (512, 512)


@given(st.integers(1, 4096), st.integers(8000, 200000))
def test_token_ids_are_valid_and_spread(num_tokens: int, vocab_size: int) -> None:
    ids = spread_token_ids(num_tokens, vocab_size, torch.device("cpu"))
    assert ids.dtype is torch.int32
    assert ids.shape == (num_tokens,)
    assert 0 <= int(ids.min()) <= int(ids.max()) < vocab_size
    if vocab_size % 7919:
        assert len(ids.unique()) == num_tokens


def test_a_model_whose_configuration_names_no_vocabulary_gets_zeros() -> None:
    assert not spread_token_ids(5, 0, torch.device("cpu")).any()  # what vLLM says of one
