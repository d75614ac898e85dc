# SPDX-License-Identifier: Apache-2.0
"""The choice of MoE communication: the cases that upstream documents, and what must hold in all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_ascend.data_parallel.moe_comm import MoEComm, MoECommConfig, select_moe_comm

CAPACITY = 512
configs = st.builds(
    MoECommConfig,
    soc=st.sampled_from(["A2", "A3", "UNDEFINED"]),
    ep_size=st.sampled_from([1, 2, 8, 15, 16, 32, 256]),
    mc2_capacity=st.sampled_from([0, 512, 4096]),
    layers_pad=st.booleans(),
    attention_pads=st.booleans(),
    compiled_decode=st.booleans(),
    fused_all_gather_ep=st.booleans(),
    generic_multicasts_prefill=st.booleans(),
    generic_gathers_alone=st.booleans(),
    generic_cannot_gather=st.booleans(),
)
tokens = st.integers(0, 10000)


@pytest.mark.parametrize(
    ("soc", "ep_size", "num_tokens", "with_prefill", "generic", "custom"),
    [
        ("A2", 1, 4, False, "ALL_GATHER", "ALL_GATHER"),
        ("A2", 1, 4, True, "ALL_GATHER", "NAIVE_MULTICAST"),
        ("A2", 2, 4, False, "ALL_GATHER", "ALL_TO_ALL"),
        ("A2", 15, 4, True, "ALL_GATHER", "ALL_TO_ALL"),
        ("A2", 16, 4, False, "MC2", "MC2"),
        ("A3", 16, 4, False, "MC2", "MC2"),
        ("A3", 16, 4, True, "MC2", "ALL_TO_ALL"),
        ("A2", 16, CAPACITY, False, "MC2", "MC2"),
        ("A2", 16, CAPACITY + 1, False, "ALL_GATHER", "ALL_TO_ALL"),
        ("A3", 16, CAPACITY + 1, False, "ALL_TO_ALL", "ALL_TO_ALL"),
        ("A2", 32, 8192, True, "ALL_GATHER", "ALL_TO_ALL"),
        ("A3", 32, 8192, True, "ALL_TO_ALL", "ALL_TO_ALL"),
        ("UNDEFINED", 1, 2048, True, "ALL_GATHER", "NAIVE_MULTICAST"),
        ("UNDEFINED", 16, 4, False, "ALL_GATHER", "ALL_TO_ALL"),
    ],
)
def test_the_documented_cases(
    soc: str, ep_size: int, num_tokens: int, with_prefill: bool, generic: str, custom: str
) -> None:
    choice = select_moe_comm(num_tokens, with_prefill, MoECommConfig(soc, ep_size, CAPACITY))
    assert (choice.generic.name, choice.custom.name) == (generic, custom)
    assert choice.dispatcher is choice.custom


@given(tokens, st.booleans(), configs)
def test_every_choice_has_the_names_that_upstream_looks_up(
    num_tokens: int, with_prefill: bool, config: MoECommConfig
) -> None:
    choice = select_moe_comm(num_tokens, with_prefill, config)
    assert choice.comm_type in {"ALLGATHER", "ALLTOALL", "MC2", "NAIVE_MULTICAST"}
    if not config.generic_multicasts_prefill:
        assert choice.comm_impl in {"allgathercommimpl", "alltoallcommimpl", "mc2commimpl"}
    assert choice.fused_moe_state in {"AllGather", "All2All", "MC2", "NaiveMulticast", "AllGatherEP"}
    assert choice.token_dispatcher.startswith("TokenDispatcherWith")


@given(tokens, st.booleans(), configs)
def test_mc2_never_exceeds_its_mask_outside_compiled_decode(
    num_tokens: int, with_prefill: bool, config: MoECommConfig
) -> None:
    choice = select_moe_comm(num_tokens, with_prefill, config)
    if num_tokens > config.mc2_capacity:
        assert choice.generic is not MoEComm.MC2
        assert choice.custom is not MoEComm.MC2 or config.compiled_decode
    if config.ep_size < 16 or config.soc == "UNDEFINED":
        assert MoEComm.MC2 not in (choice.generic, choice.custom)
    if config.needs_uniform_size(choice):
        assert MoEComm.MC2 in ((choice.generic, choice.custom) if config.attention_pads else (choice.custom,))
        assert not config.layers_pad


@given(tokens, configs)
def test_of_generic_layers_a_prefill_changes_gathering_alone(num_tokens: int, config: MoECommConfig) -> None:
    """Graphs are captured by size, as decodes, so a prefill that replays one gathers too."""
    prefill, decode = (select_moe_comm(num_tokens, flag, config).generic for flag in (True, False))
    if config.generic_multicasts_prefill and not config.generic_gathers_alone and decode is MoEComm.ALL_GATHER:
        assert prefill is MoEComm.NAIVE_MULTICAST
    else:
        assert prefill is decode


@pytest.mark.parametrize(
    ("soc", "ep_size", "num_tokens", "with_prefill", "generic"),
    [
        ("A2", 1, 4, True, "NAIVE_MULTICAST"),
        ("A2", 1, 4, False, "ALL_GATHER"),
        ("A2", 16, 4, True, "MC2"),
        ("A2", 16, CAPACITY + 1, True, "NAIVE_MULTICAST"),
        ("A2", 16, CAPACITY + 1, False, "ALL_GATHER"),
        ("A3", 2, CAPACITY + 1, True, "ALL_TO_ALL"),
        ("UNDEFINED", 16, 4, True, "NAIVE_MULTICAST"),
    ],
)
def test_generic_layers_of_0_11_0(soc: str, ep_size: int, num_tokens: int, with_prefill: bool, generic: str) -> None:
    config = MoECommConfig(soc, ep_size, CAPACITY, generic_mc2_min_ep_size=2 if soc == "A3" else 16)
    config = replace(config, generic_multicasts_prefill=True)
    assert select_moe_comm(num_tokens, with_prefill, config).generic.name == generic
    assert select_moe_comm(num_tokens, with_prefill, replace(config, generic_gathers_alone=True)).generic.name == (
        "ALL_GATHER"
    )
    gathers = generic in ("ALL_GATHER", "NAIVE_MULTICAST") and ep_size > 1
    exchanged = select_moe_comm(num_tokens, with_prefill, replace(config, generic_cannot_gather=True)).generic
    assert exchanged.name == ("ALL_TO_ALL" if gathers else generic)


def test_the_fused_all_gather_keeps_the_dispatcher_of_the_method_it_replaces() -> None:
    config = MoECommConfig("A2", 16, CAPACITY, fused_all_gather_ep=True)
    choice = select_moe_comm(4, False, config)
    assert choice.custom is MoEComm.FUSED_ALL_GATHER_EP
    assert choice.token_dispatcher == "TokenDispatcherWithMC2"
    alone = MoECommConfig("A2", 1, CAPACITY, fused_all_gather_ep=True)
    assert select_moe_comm(4, False, alone).custom is MoEComm.ALL_GATHER


def test_generic_layers_may_run_mc2_below_the_custom_layers_bound() -> None:
    """From 0.10.2 on an A3 needs no sixteen ranks for it; its custom layers do."""
    config = MoECommConfig("A3", ep_size=4, mc2_capacity=512, generic_mc2_min_ep_size=2)
    small, large = (select_moe_comm(rows, False, config) for rows in (512, 513))
    assert (small.generic, large.generic) == (MoEComm.MC2, MoEComm.ALL_TO_ALL)
    assert small.custom is large.custom is MoEComm.ALL_TO_ALL
    assert select_moe_comm(8, False, replace(config, ep_size=1)).generic is MoEComm.ALL_GATHER
    assert select_moe_comm(8, False, replace(config, soc="UNDEFINED")).generic is MoEComm.ALL_GATHER


@pytest.mark.parametrize(("has_dispatcher", "dispatcher"), [(False, MoEComm.ALL_TO_ALL), (True, MoEComm.ALL_GATHER)])
def test_the_fused_kernel_takes_the_dispatcher_of_its_release(has_dispatcher: bool, dispatcher: MoEComm) -> None:
    config = MoECommConfig("A2", 8, 256, fused_all_gather_ep=True, all_gather_ep_has_dispatcher=has_dispatcher)
    choice = select_moe_comm(8, True, config)
    assert (choice.custom, choice.dispatcher) == (MoEComm.FUSED_ALL_GATHER_EP, dispatcher)
    assert select_moe_comm(8, True, replace(config, ep_size=1)).dispatcher is MoEComm.NAIVE_MULTICAST


def test_a_release_without_a_choice_for_generic_layers_broadcasts_their_rows() -> None:
    config = MoECommConfig("A2", 16, CAPACITY, generic_layers_choose=False)
    assert {select_moe_comm(rows, False, config).generic for rows in (1, 8192)} == {MoEComm.NAIVE_MULTICAST}
    assert select_moe_comm(1, False, config).custom is MoEComm.MC2


@pytest.mark.parametrize(
    ("rows", "with_prefill", "state"), [(4, True, "All2AllSeq"), (4, False, "MC2"), (513, False, "All2AllSeq")]
)
def test_the_all_to_all_of_0_10_0_takes_the_place_of_the_other(rows: int, with_prefill: bool, state: str) -> None:
    config = MoECommConfig("A2", 16, CAPACITY, all_to_all_seq=True)
    assert select_moe_comm(rows, with_prefill, config).fused_moe_state == state
