# SPDX-License-Identifier: Apache-2.0
"""Random schedules. Every draw shrinks towards two eager ranks that decode one request or have none."""

from __future__ import annotations

import dataclasses
from enum import Enum
from itertools import product

from hypothesis import strategies as st

from simulation.schedule import Deployment, Drafter, KVRole, Layers, Loads, Mode, Schedule
from simulation.since_0_18.releases import THIS
from simulation.works import WIDE_LIMITS, schedules_of


class Focus(Enum):
    """What a deployment is drawn for, where chance alone would seldom bring it together.

    WIDE has its experts over 16 ranks of one device, each with about as many rows as MC2's kernel takes. DECODE_NODE
    receives its KV on an A3, where MC2 alone exchanges rows and nothing else has to be known. GROUPED splits layers
    over the DP ranks, SPLIT rows over the tensor-parallel ones.
    """

    NONE = "none"
    WIDE = "wide"
    DECODE_NODE = "decode node"
    GROUPED = "grouped"
    SPLIT = "split"


_FOCI = (
    *(Focus.NONE,) * 9,
    *(Focus.WIDE,) * 2,
    *(Focus.DECODE_NODE,) * 4,
    *(Focus.GROUPED,) * 4,
    *(Focus.SPLIT,) * 3,
)

# hypothesis pays for each draw, so that values that belong together are drawn together. A table's first entries are
# what failures shrink to; entries that come more than once are drawn more often.
_DP_SIZES = (2, 1, 3, 4, *(2,) * 100, *(3,) * 50, *(4,) * 50, *range(1, 33))
_HARDWARE = tuple(product((1, 1, 1, 2, 4, 8, 16), ("A2", "A3")))
_MODES = (Mode.EAGER, Mode.ACL_GRAPH, Mode.FULL_DECODE, *((Mode.BOTH,) if THIS.both_kinds else ()))
_MODELS = tuple(product(_MODES, (Layers.GENERIC, Layers.CUSTOM)))
_DRAFTERS = (
    *((Drafter.NONE, 0), (Drafter.NONE, 0), (Drafter.NGRAM, 1), (Drafter.EAGLE, 1), (Drafter.EAGLE, 2)),
    *((Drafter.MTP, drafts) for drafts in (1, 2, 3)),
)
_ROLES = tuple(product(KVRole, _DRAFTERS))
_LIMITS = ((16, 64), (4, 8), (1, 4), (13, 13), (64, 64), (30, 30), (24, 96), WIDE_LIMITS, (512, 8192), (600, 8192))
_GRAPH_SIZES = ((1, 8), (4,), (1, 2, 4, 8, 16), (8, 64, 512), (12, 24))
_SIZES = tuple(product(_LIMITS, _GRAPH_SIZES))
_SWITCHES = (
    "expert_parallel",
    "lmhead_parallel",
    "shared_expert_dp",
    "unpadded_drafter",
    "cpu_group",
    "mlp_parallel",
    "oproj_parallel",
    "embedding_parallel",
    "sequence_parallel",
    "sequence_pass",
    "context_parallel",
    "recompute",
    *THIS.options,
)
_LOADS = (*(Loads.NONE,) * 5, *(Loads if THIS.balances else (Loads.NONE,)))
# Most rows of an embedding of a constant number without graphs.
_MOST_EMBEDDED = 512
# Layers that need as many rows on every rank.
GROUPS = ("mlp_parallel", "oproj_parallel", *(() if THIS.constant_embedding else ("embedding_parallel",)))


def normal(one: Deployment) -> Deployment:
    """The nearest deployment that vLLM and vllm-ascend accept."""
    if not THIS.whole_masks:
        # MC2 pads rows to a multiple of the tensor-parallel ranks, and such a release has no mask for these.
        rounded = -(-one.max_num_batched_tokens // one.tp) * one.tp
        one = dataclasses.replace(one, max_num_batched_tokens=rounded)
    change: dict[str, object] = {"shared_expert_dp": one.shared_expert_dp and one.expert_parallel and one.tp > 1}
    change["drafts"] = drafts = min({Drafter.NONE: 0, Drafter.MTP: 3}.get(one.drafter, 2), max(1, one.drafts))
    grouped = one.tp == 1 and one.dp > 1
    change["lmhead_parallel"] = one.lmhead_parallel and grouped
    receives = one.kv_role in (KVRole.CONSUMER, KVRole.BOTH)
    change["mlp_parallel"] = one.mlp_parallel and grouped
    change["embedding_parallel"] = one.embedding_parallel and grouped
    change["oproj_parallel"] = one.oproj_parallel and grouped and receives and one.mode is not Mode.EAGER
    splittable = one.tp > 1 and one.max_num_batched_tokens % one.tp == 0
    change["sequence_parallel"] = one.sequence_parallel and splittable and one.expert_parallel
    change["shared_expert_dp"] = bool(change["shared_expert_dp"]) and splittable
    splits = bool(change["sequence_parallel"] or change["shared_expert_dp"])
    change["sequence_pass"] = (
        one.sequence_pass and splittable and one.expert_parallel and not splits and one.mode is not Mode.EAGER
    )
    splits |= bool(change["sequence_pass"])
    eagle = one.drafter in (Drafter.EAGLE, Drafter.MTP)
    full = one.mode in (Mode.FULL_DECODE, Mode.BOTH)
    change["unpadded_drafter"] = one.unpadded_drafter and eagle and not (full and not THIS.graphs_unpadded)
    change["loads"] = one.loads if one.expert_parallel and one.dp > 1 else Loads.NONE
    change["cpu_group"] = one.cpu_group and not one.counts_on_device
    change["context_parallel"] = one.context_parallel and one.tp > 1 and one.layers is Layers.CUSTOM and not splits
    if one.mode.acl_graphs:
        # vLLM captures no size above max_num_batched_tokens, and there is at least one. Graphs of decodes hold whole
        # requests, or are refused.
        unit = 1 if one.mode is Mode.ACL_GRAPH else 1 + drafts
        unit *= one.tp if splits else 1
        fitting = tuple(size for size in one.graph_sizes if size <= one.max_num_batched_tokens and size % unit == 0)
        change["graph_sizes"] = fitting or (unit,)
        if not fitting and unit > one.max_num_batched_tokens:
            change["mode"] = Mode.EAGER
            change["oproj_parallel"] = change["sequence_pass"] = False
    change["recompute"] = one.recompute and one.kv_role is KVRole.CONSUMER
    found = dataclasses.replace(one, **change)  # type: ignore[arg-type]
    if THIS.constant_embedding and found.embedding_parallel and _most_rows(found) > _embedded(found):
        return dataclasses.replace(found, embedding_parallel=False)
    return found


def _most_rows(one: Deployment) -> int:
    """Of a step."""
    largest_decode = one.max_num_seqs * one.decode_tokens
    return min(one.max_num_batched_tokens, largest_decode) if one.decodes_alone else one.max_num_batched_tokens


def _embedded(one: Deployment) -> int:
    """Rows that an embedding of a constant number of rows takes; more are an error in every step that has them."""
    largest_decode = one.max_num_seqs * one.decode_tokens
    if one.mode is Mode.EAGER:
        return min(largest_decode, _MOST_EMBEDDED)
    return max(one.graph_sizes[-1], min(one.max_num_batched_tokens, largest_decode))


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Deployments of every mode, SoC, size and role."""
    (tp, soc), (mode, layers) = draw(st.sampled_from(_HARDWARE)), draw(st.sampled_from(_MODELS))
    kv_role, (drafter, drafts) = draw(st.sampled_from(_ROLES))
    (max_num_seqs, max_num_batched_tokens), graph_sizes = draw(st.sampled_from(_SIZES))
    drawn, dp = draw(st.integers(0, 2 ** len(_SWITCHES) - 1)), draw(st.sampled_from(_DP_SIZES))
    loads = draw(st.sampled_from(_LOADS)) if THIS.balances else Loads.NONE
    focus = draw(st.sampled_from(_FOCI))
    switches = {name: bool(drawn >> number & 1) for number, name in enumerate(_SWITCHES)}
    # Alone each of these is worth a look; together they would hide each other.
    if focus is not Focus.GROUPED:
        switches |= dict.fromkeys(GROUPS, False)
    if focus is Focus.WIDE:
        dp, tp, (max_num_seqs, max_num_batched_tokens), graph_sizes = 16, 1, WIDE_LIMITS, (8, 64, 512)
        switches["expert_parallel"] = True
    elif focus is Focus.DECODE_NODE:
        soc, switches["expert_parallel"], graph_sizes = "A3", True, (8, 64, 512)
        kv_role = KVRole.CONSUMER if switches["recompute"] else KVRole.BOTH
        if switches["recompute"] and mode is Mode.EAGER:  # decodes of more tokens than upstream looks at
            max_num_seqs, max_num_batched_tokens = 600, 8192
    elif focus is Focus.GROUPED:
        tp = 1
        if switches["cpu_group"]:  # half of them
            switches |= {name: name == GROUPS[drawn % len(GROUPS)] for name in GROUPS}
        if switches["oproj_parallel"]:
            kv_role = KVRole.BOTH
        elif mode is Mode.EAGER:  # where a second draft may have other rows than the first
            drafter, drafts = Drafter.EAGLE, 2
    elif focus is Focus.SPLIT:
        tp, switches["expert_parallel"], switches["shared_expert_dp"] = max(2, tp), True, False
        switches["sequence_parallel"] = not switches["sequence_pass"]
    return normal(
        Deployment(
            dp=dp,
            tp=tp,
            soc=soc,
            mode=mode,
            layers=layers,
            kv_role=kv_role,
            drafter=drafter,
            drafts=drafts,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            graph_sizes=graph_sizes,
            loads=loads,
            **switches,
        )
    )


def schedules() -> st.SearchStrategy[Schedule]:
    """Schedules of such deployments."""
    return schedules_of(deployments())
