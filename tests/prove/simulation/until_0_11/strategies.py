# SPDX-License-Identifier: Apache-2.0
"""Random schedules. Every draw shrinks towards two eager ranks that decode one request or have none."""

from __future__ import annotations

import dataclasses
from enum import Enum
from itertools import product

from hypothesis import strategies as st

from simulation.schedule import Deployment, Drafter, KVRole, Layers, Mode, Schedule
from simulation.until_0_11.releases import THIS
from simulation.works import WIDE_LIMITS, schedules_of


class Focus(Enum):
    """What a deployment is drawn for, where chance alone would seldom bring it together.

    WIDE has its experts over 16 ranks of one device, each with about as many rows as MC2's kernel takes: with more
    devices a rank, the kernel gets few rows of each batch. DECODE_NODE is a KV consumer under TorchAir, whose layers
    are split over the DP ranks.
    """

    NONE = "none"
    WIDE = "wide"
    DECODE_NODE = "decode node"


_FOCI = (*(Focus.NONE,) * 16, Focus.WIDE, Focus.WIDE, Focus.DECODE_NODE)

# hypothesis pays for each draw, so that values that belong together are drawn together. A table's first entries are
# what failures shrink to; entries that come more than once are drawn more often.
_DP_SIZES = (2, 1, 3, 4, *(2,) * 100, *(3,) * 50, *(4,) * 50, *range(1, 33))
# Groups across DP ranks need a TP of 1.
_HARDWARE = tuple(product((1, 1, 1, 2, 4, 8, 16), ("A2", "A3", "UNDEFINED")))
_FULL_DECODE = (Mode.FULL_DECODE,) if THIS.full_decode_graphs else ()
_MODES = (Mode.EAGER, Mode.ACL_GRAPH, *_FULL_DECODE, Mode.TORCHAIR)
_MODELS = tuple(product(_MODES, (Layers.CUSTOM, Layers.GENERIC, Layers.DENSE)))
_DRAFTERS = (
    *((Drafter.NONE, 0), (Drafter.NGRAM, 1), (Drafter.EAGLE, 1), (Drafter.EAGLE, 2)),
    *((Drafter.MTP, drafts + 1) for drafts in range(THIS.drafts_of_mtp)),
)
_ROLES = tuple(product(KVRole, _DRAFTERS))
_LIMITS = ((16, 64), (4, 8), (1, 4), (13, 13), (64, 64), (30, 30), (24, 96), WIDE_LIMITS, (512, 8192), (600, 8192))
_GRAPH_SIZES = ((1, 8), (4,), (1, 2, 4, 8, 16), (8, 64, 512), ())
_SIZES = tuple(product(_LIMITS, _GRAPH_SIZES))


def normal(one: Deployment) -> Deployment:
    """The nearest deployment that vLLM and vllm-ascend accept."""
    layers = _layers(one)
    drafter = _drafter(one, layers)
    change: dict[str, object] = {"layers": layers, "drafter": drafter}
    # Eagle drafts up to two tokens (eagle_proposer_v1.py), a release's MTP its own number.
    most = {Drafter.NONE: 0, Drafter.MTP: THIS.drafts_of_mtp}.get(drafter, 2)
    change["drafts"] = drafts = min(most, max(1, one.drafts))
    change["lmhead_parallel"] = THIS.row_groups and one.lmhead_parallel and one.tp == 1 and one.dp > 1
    # With TP the groups of an MLP lie within a DP rank, or across a few. Nobody makes equal the rows of Eagle's own, or
    # of prefills under TorchAir: a step with drafts of ngram is one, and so is every step of a producer.
    change["mlp_parallel"] = (
        THIS.row_groups
        and one.mlp_parallel
        and one.tp == 1
        and one.dp > 1
        and drafter is not Drafter.EAGLE
        and not (one.mode is Mode.TORCHAIR and (drafter is Drafter.NGRAM or one.kv_role is KVRole.PRODUCER))
    )
    # Upstream takes it under TorchAir alone, from a node that decodes for others.
    change["oproj_parallel"] = (
        THIS.splits_o_proj
        and one.oproj_parallel
        and one.tp == 1
        and one.dp > 1
        and one.mode is Mode.TORCHAIR
        and drafter is not Drafter.NGRAM
        and one.kv_role in (KVRole.CONSUMER, KVRole.BOTH)
    )
    change["expert_parallel"] = one.expert_parallel and layers is not Layers.DENSE
    change["shared_expert_dp"] = (
        THIS.row_groups
        and one.shared_expert_dp
        and bool(change["expert_parallel"])
        and one.mode is not Mode.TORCHAIR
        and (layers is Layers.CUSTOM or _generic_layers_share_experts(one, layers, drafter))
    )
    # The rows of a batch are rounded up to whole ones a device, whether the buffers hold them or not; and vLLM captures
    # no size that they do not divide.
    largest_unit = one.tp * (1 + drafts if one.mode is Mode.FULL_DECODE else 1)
    change["sequence_parallel"] = (
        THIS.sequence_parallel
        and one.sequence_parallel
        and one.tp > 1
        and one.max_num_batched_tokens % one.tp == 0
        and one.max_num_batched_tokens >= largest_unit
        and one.mode is not Mode.TORCHAIR
        and layers is not Layers.CUSTOM
        and drafter in (Drafter.NONE, Drafter.NGRAM)
        and not change["shared_expert_dp"]
    )
    if one.mode is Mode.TORCHAIR and one.kv_role is KVRole.PRODUCER:
        # Its decodes are prompts that were all cached: never as many as MC2 takes rows on a chip, which is not seen to.
        change["max_num_seqs"] = min(one.max_num_seqs, 256 // (1 + drafts))
    change["dbo"] = one.dbo and layers is Layers.CUSTOM and one.mode is Mode.EAGER
    if one.mode.acl_graphs:
        # It captures none above max_num_batched_tokens, and there is at least one. Graphs of decodes hold whole
        # requests, or are refused.
        unit = 1 + drafts if one.mode is Mode.FULL_DECODE else 1
        unit *= one.tp if change["sequence_parallel"] else 1
        fitting = tuple(size for size in one.graph_sizes if size <= one.max_num_batched_tokens and size % unit == 0)
        change["graph_sizes"] = fitting or (unit,)
    return dataclasses.replace(one, **change)  # type: ignore[arg-type]


def _layers(one: Deployment) -> Layers:
    """Custom layers are barred from ACL graphs (ascend_config.py), and TorchAir has no others."""
    if one.mode is Mode.TORCHAIR:
        return Layers.CUSTOM
    of_torchair = one.shared_expert_dp and one.expert_parallel  # whose runner it takes
    if one.layers is Layers.CUSTOM and (one.mode.acl_graphs or not (THIS.custom_layers_in_eager or of_torchair)):
        return Layers.GENERIC
    return one.layers


def _generic_layers_share_experts(one: Deployment, layers: Layers, drafter: Drafter) -> bool:
    """Those that gather leave their rows gathered then; on an A3 none does.

    DeepSeek, whose drafter MTP is, has custom layers then, and no other attention of its kind runs: upstream's platform
    takes TorchAir's backend for it, which the attention of generic layers does not call as it asks.
    """
    eager_on_a3 = one.mode is Mode.EAGER and one.soc == "A3" and one.dp * one.tp > 1
    generic = layers is Layers.GENERIC and drafter is not Drafter.MTP
    return THIS.shared_experts_of_generic and generic and eager_on_a3


def _drafter(one: Deployment, layers: Layers) -> Drafter:
    """MTP is DeepSeek's, and the one drafter of TorchAir."""
    deepseek = layers is Layers.CUSTOM or (layers is Layers.GENERIC and not THIS.custom_layers_in_eager)
    if one.drafter is Drafter.MTP and not deepseek:
        return Drafter.EAGLE if THIS.eagle else Drafter.NGRAM
    if one.drafter is Drafter.EAGLE and (one.mode is Mode.TORCHAIR or not THIS.eagle):
        return Drafter.MTP if deepseek else Drafter.NGRAM
    return one.drafter


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Deployments of every mode, SoC, size and role."""
    (tp, soc), (mode, layers) = draw(st.sampled_from(_HARDWARE)), draw(st.sampled_from(_MODELS))
    kv_role, (drafter, drafts) = draw(st.sampled_from(_ROLES))
    (max_num_seqs, max_num_batched_tokens), graph_sizes = draw(st.sampled_from(_SIZES))
    switches, dp = draw(st.integers(0, 2**8 - 1)), draw(st.sampled_from(_DP_SIZES))
    focus = draw(st.sampled_from(_FOCI))
    if focus is Focus.WIDE:
        dp, tp, (max_num_seqs, max_num_batched_tokens), graph_sizes = 16, 1, WIDE_LIMITS, (8, 64, 512)
        switches |= 1
        if layers is Layers.DENSE:
            mode, layers = Mode.EAGER, Layers.CUSTOM
    elif focus is Focus.DECODE_NODE and THIS.splits_o_proj:
        tp, mode, kv_role = 1, Mode.TORCHAIR, KVRole.CONSUMER
        switches |= 64
    return normal(
        Deployment(
            dp=dp,
            tp=tp,
            soc=soc,
            mode=mode,
            layers=layers,
            expert_parallel=bool(switches & 1),
            lmhead_parallel=bool(switches & 2),
            shared_expert_dp=bool(switches & 4),
            dbo=bool(switches & 8),
            cpu_group=bool(switches & 16),
            mlp_parallel=bool(switches & 32),
            oproj_parallel=bool(switches & 64),
            sequence_parallel=bool(switches & 128),
            kv_role=kv_role,
            drafter=drafter,
            drafts=drafts,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            graph_sizes=graph_sizes,
        )
    )


def schedules() -> st.SearchStrategy[Schedule]:
    """Schedules of such deployments."""
    return schedules_of(deployments())
