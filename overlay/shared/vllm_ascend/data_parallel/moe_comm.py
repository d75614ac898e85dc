# SPDX-License-Identifier: Apache-2.0
"""Which MoE communication a step uses: one registry of methods and one pure selection over it.

Upstream has two families of MoE layers, each with a chooser of its own: the generic ``FusedMoE`` layers look up a
communication object by name or by a ``MoECommType`` (0.11.0), the custom ``AscendFusedMoE`` layers, in 0.11.0 those
of TorchAir alone, branch on a ``FusedMoEState`` and a token dispatcher. Both are answered here, from values that are
equal on every DP rank, so that two ranks cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import product
from typing import Any, Optional

from vllm_ascend.data_parallel.mc2 import MC2_ROWS_PER_RANK, mc2_rows

# Fewest expert-parallel ranks for which upstream runs the MC2 kernels.
MC2_MIN_EP_SIZE = 16
# The type of the model whose layers take no communication but all-gather, whatever is chosen.
GATHERS_ALONE = "PanguProMoE"


def mc2_capacity(soc: str, tp_size: int) -> int:
    """Most tokens of a DP rank that MC2 takes: the rows that its kernel takes, once for each tensor-parallel rank."""
    return mc2_rows(soc) * tp_size


def has_experts(hf_config: Any) -> bool:
    """Whether a model has MoE layers, told from its Hugging Face configuration and those nested in it."""
    return _names_experts(hf_config.to_dict())


def _names_experts(entries: dict[str, Any]) -> bool:
    return any(
        "experts" in str(name).lower() or (isinstance(value, dict) and _names_experts(value))
        for name, value in entries.items()
    )


@dataclass(frozen=True)
class MoECommMethod:
    """Names under which upstream knows one way to exchange tokens between experts.

    ``comm_impl`` is the attribute that generic layers hold it under, ``comm_type`` the ``MoECommType`` member that they
    ask for it by in 0.11.0, ``fused_moe_state`` the member that custom layers branch on, ``token_dispatcher`` the
    dispatcher that goes with that member. None where a family has no such method.
    """

    comm_impl: Optional[str]
    comm_type: Optional[str]
    fused_moe_state: Optional[str]
    token_dispatcher: Optional[str]


class MoEComm(Enum):
    """The registry: every method that a step can use."""

    ALL_GATHER = MoECommMethod("allgathercommimpl", "ALLGATHER", "AllGather", "TokenDispatcherWithAllGather")
    ALL_TO_ALL = MoECommMethod("alltoallcommimpl", "ALLTOALL", "All2All", "TokenDispatcherWithAll2AllV")
    ALL_TO_ALL_SEQ = MoECommMethod(None, None, "All2AllSeq", None)
    MC2 = MoECommMethod("mc2commimpl", "MC2", "MC2", "TokenDispatcherWithMC2")
    NAIVE_MULTICAST = MoECommMethod(None, "NAIVE_MULTICAST", "NaiveMulticast", "TokenDispatcherWithAllGather")
    FUSED_ALL_GATHER_EP = MoECommMethod(None, None, "AllGatherEP", None)


@dataclass(frozen=True)
class MoECommConfig:
    """Static facts of a deployment that the choice depends on; equal on every rank.

    ``soc`` is the name of upstream's ``AscendSocVersion`` member. ``mc2_capacity`` is in tokens per DP rank.
    ``layers_pad`` says that MoE layers see to what MC2 needs themselves; those of upstream's shared-expert DP do not.
    ``attention_pads`` says that attention takes rows beyond a rank's tokens: with shared-expert DP MLA scatters its
    tokens over the tensor-parallel ranks, DeepSeek V3.2's counts on them with one, too, and neither does; such a model
    has custom layers alone.
    ``compiled_decode`` marks TorchAir, whose decode graphs cannot hold an all-to-all. ``fused_all_gather_ep`` is
    upstream's opt-in kernel for DeepSeek V3 and R1, ``all_gather_ep_has_dispatcher`` whether its layers exchange tokens
    through the all-gather dispatcher. ``all_to_all_seq`` is upstream's opt-in all-to-all of vllm-ascend 0.10.0.
    ``generic_layers_choose`` says that generic layers look the method up, and ``generic_mc2_min_ep_size`` is the fewest
    expert-parallel ranks for which they run MC2. ``generic_multicasts_prefill`` says that they multicast the rows of a
    prefill instead of gathering padded ones; ``generic_gathers_alone`` marks a model that only gathers,
    ``generic_cannot_gather`` parallel experts that never do. ``sequence_parallel`` splits a rank's rows over its
    tensor-parallel ranks.
    """

    soc: str
    ep_size: int
    mc2_capacity: int
    layers_pad: bool = True
    attention_pads: bool = True
    compiled_decode: bool = False
    fused_all_gather_ep: bool = False
    all_gather_ep_has_dispatcher: bool = False
    all_to_all_seq: bool = False
    generic_layers_choose: bool = True
    generic_mc2_min_ep_size: int = MC2_MIN_EP_SIZE
    generic_multicasts_prefill: bool = False
    generic_gathers_alone: bool = False
    generic_cannot_gather: bool = False
    sequence_parallel: bool = False

    @cached_property
    def choices(self) -> dict[tuple[bool, bool], MoECommChoice]:
        """Every choice, by whether the largest rank has no more rows than MC2 takes, and by whether one has a prefill.

        Made once: every step looks its own up.
        """
        cases = product((False, True), repeat=2)
        return {(within, prefill): _choose(within, prefill, self) for within, prefill in cases}

    @property
    def mc2_available(self) -> bool:
        """The MC2 kernels exist on this SoC and the expert-parallel group is large enough for custom layers' MC2."""
        return self.soc in MC2_ROWS_PER_RANK and self.ep_size >= MC2_MIN_EP_SIZE

    @property
    def generic_mc2_available(self) -> bool:
        """The same for generic layers."""
        return self.soc in MC2_ROWS_PER_RANK and self.ep_size >= self.generic_mc2_min_ep_size

    def needs_uniform_size(self, choice: MoECommChoice) -> bool:
        """Something wants the same number of rows on every rank, and no layer sees to it.

        MC2's kernels do; and with sequence parallelism a compiled graph cannot hold each rank's own padding.
        """
        methods = (choice.generic, choice.custom) if self.attention_pads else (choice.custom,)
        return self.sequence_parallel or (MoEComm.MC2 in methods and not self.layers_pad)


@dataclass(frozen=True)
class MoECommChoice:
    """The method for each family of layers, and the dispatcher that the custom family uses."""

    generic: MoEComm
    custom: MoEComm
    dispatcher: MoEComm

    @cached_property
    def comm_impl(self) -> str:
        """Attribute of a generic layer that holds its communication object."""
        assert self.generic.value.comm_impl is not None
        return self.generic.value.comm_impl

    @cached_property
    def comm_type(self) -> str:
        """Name of the ``MoECommType`` member for generic layers."""
        assert self.generic.value.comm_type is not None
        return self.generic.value.comm_type

    @cached_property
    def fused_moe_state(self) -> str:
        """Name of the ``FusedMoEState`` member for custom layers."""
        assert self.custom.value.fused_moe_state is not None
        return self.custom.value.fused_moe_state

    @cached_property
    def token_dispatcher(self) -> str:
        """Name of the token dispatcher for custom layers."""
        assert self.dispatcher.value.token_dispatcher is not None
        return self.dispatcher.value.token_dispatcher


def select_moe_comm(max_num_tokens: int, with_prefill: bool, config: MoECommConfig) -> MoECommChoice:
    """Choose for a step in which the largest rank computes ``max_num_tokens`` rows.

    ``with_prefill`` says that some rank has a prefill. Both must come from the step's metadata, never from one rank.
    """
    return config.choices[bool(max_num_tokens <= config.mc2_capacity), bool(with_prefill)]


def _choose(within_mc2: bool, with_prefill: bool, config: MoECommConfig) -> MoECommChoice:
    custom = dispatcher = _custom(within_mc2, with_prefill, config)
    if config.fused_all_gather_ep and config.ep_size > 1:
        custom = MoEComm.FUSED_ALL_GATHER_EP
        if config.all_gather_ep_has_dispatcher:
            dispatcher = MoEComm.ALL_GATHER
    return MoECommChoice(generic=_generic(within_mc2, with_prefill, config), custom=custom, dispatcher=dispatcher)


def _generic(within_mc2: bool, with_prefill: bool, config: MoECommConfig) -> MoEComm:
    """Generic layers live inside ACL graphs, captured once per size and as decodes; a replay runs what was captured."""
    if not config.generic_layers_choose:
        return MoEComm.NAIVE_MULTICAST
    if config.generic_gathers_alone:
        return MoEComm.ALL_GATHER
    if config.generic_mc2_available:
        if within_mc2:
            return MoEComm.MC2
        if config.soc == "A3":
            return MoEComm.ALL_TO_ALL
    if config.generic_cannot_gather and config.ep_size > 1:
        return MoEComm.ALL_TO_ALL
    return MoEComm.NAIVE_MULTICAST if with_prefill and config.generic_multicasts_prefill else MoEComm.ALL_GATHER


def _custom(within_mc2: bool, with_prefill: bool, config: MoECommConfig) -> MoEComm:
    """Custom layers run eager, or compiled by TorchAir for decode."""
    if config.ep_size == 1:
        return MoEComm.NAIVE_MULTICAST if with_prefill else MoEComm.ALL_GATHER
    all_to_all = MoEComm.ALL_TO_ALL_SEQ if config.all_to_all_seq else MoEComm.ALL_TO_ALL
    if with_prefill or not config.mc2_available:
        return all_to_all
    return MoEComm.MC2 if config.compiled_decode or within_mc2 else all_to_all
