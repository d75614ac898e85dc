# SPDX-License-Identifier: Apache-2.0
"""Switches of upstream's that change how a step runs: each is one variable, or one of its own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Switch:
    """What turns it on.

    Attributes:
        sets: the releases that have it.
        environment: variables.
        additional: what vLLM's ``additional_config`` gets.
    """

    sets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    additional: Mapping[str, object] = field(default_factory=dict)


_0_10_0, _0_10_1, _0_10_2, _0_11, _0_18, _0_23 = "v0.10.0", "v0.10.1.1", "v0.10.2", "v0.11.0", "v0.18.0", "v0.23.0"
NO_SWITCH = Switch()
SWITCHES: Mapping[str, Switch] = {
    "all2all_seq": Switch((_0_10_0,), {"VLLM_ASCEND_ENABLE_MOE_ALL2ALL_SEQ": "1"}),
    "dbo": Switch((_0_10_0, _0_10_1, _0_10_2, _0_11), {"VLLM_ASCEND_ENABLE_DBO": "1"}),
    "allgather_ep": Switch((_0_10_0, _0_10_1, _0_10_2, _0_11), {"VLLM_ENABLE_FUSED_EXPERTS_ALLGATHER_EP": "1"}),
    "flashcomm": Switch((_0_10_2,), {"VLLM_ASCEND_ENABLE_FLASHCOMM": "1"}),
    "flashcomm1": Switch((_0_11, _0_18, _0_23), {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "1"}),
    "dense_optimize": Switch((_0_10_2, _0_11), {"VLLM_ASCEND_ENABLE_DENSE_OPTIMIZE": "1"}),
    "recompute": Switch((_0_11, _0_18, _0_23), additional={"recompute_scheduler_enable": True}),
    "shared_stream": Switch((_0_11, _0_18, _0_23), additional={"multistream_overlap_shared_expert": True}),
    "gate_stream": Switch((_0_18, _0_23), additional={"multistream_overlap_gate": True}),
    "balance": Switch((_0_18, _0_23), {"VLLM_ASCEND_BALANCE_SCHEDULING": "1"}),
    "prefill_mc2": Switch((_0_23,), additional={"enable_prefill_mc2": True}),
    "counts_on_device": Switch((_0_23,), additional={"dp_allreduce_on_npu": True}),
    "reduce_sample": Switch((_0_23,), additional={"enable_reduce_sample": True}),
}
