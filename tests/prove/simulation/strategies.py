# SPDX-License-Identifier: Apache-2.0
"""Random schedules. Every draw shrinks towards two eager ranks that decode one request or have none."""

from __future__ import annotations

import dataclasses
from itertools import product

from hypothesis import strategies as st

from simulation.schedule import Deployment, Drafter, Kind, KVRole, Layers, Mode, Schedule, Work

MAX_STEPS = 4
# Ranks beyond this share a few works between them, so that a schedule of 32 ranks stays quick to draw.
DISTINCT_WORKS = 4

# hypothesis pays for each draw, so that values that belong together are drawn together. A table's first entries are
# what failures shrink to; entries that come more than once are drawn more often.
_DP_SIZES = (2, 1, 3, 4, *(2,) * 100, *(3,) * 50, *(4,) * 50, *range(1, 33))
_HARDWARE = tuple(product((1, 2, 4, 8, 16), ("A2", "A3", "UNDEFINED")))
_MODELS = tuple(product(Mode, (Layers.CUSTOM, Layers.GENERIC, Layers.DENSE)))
_DRAFTERS = ((Drafter.NONE, 0), (Drafter.NGRAM, 1), (Drafter.EAGLE, 1), (Drafter.EAGLE, 2), (Drafter.MTP, 1))
_ROLES = tuple(product(KVRole, _DRAFTERS))
_LIMITS = ((16, 64), (4, 8), (1, 4), (13, 13), (64, 64), (30, 30), (24, 96), (600, 1200), (512, 8192), (600, 8192))
_GRAPH_SIZES = ((1, 8), (4,), (1, 2, 4, 8, 16), (8, 64, 512), ())
_SIZES = tuple(product(_LIMITS, _GRAPH_SIZES))
_COUNTS = (1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 64, 200, 257, 512, 513, 1024, 1100, 3000, 5000, 8192)
_WORKS = (
    Work(Kind.IDLE),
    *(Work(Kind.DECODE, requests=count) for count in _COUNTS),
    *(Work(Kind.PREFILL, tokens=count) for count in _COUNTS),
    *(Work(Kind.CHUNKED, tokens=count) for count in _COUNTS),
    *(Work(Kind.SPECULATIVE, requests=count, rejected=rejected) for count in _COUNTS[:15] for rejected in (0, 1)),
    *(Work(Kind.MIXED, requests=few, tokens=count) for few in (1, 3, 17) for count in _COUNTS[::2]),
    *(Work(kind, tokens=count, logprobs=True) for kind in (Kind.PREFILL, Kind.CHUNKED) for count in _COUNTS),
    *(Work(Kind.MIXED, requests=3, tokens=count, logprobs=True) for count in _COUNTS[::2]),
    *((Work(Kind.ABORTED),) * 10),
    *((Work(Kind.WAITING),) * 10),
    *((Work(Kind.IDLE),) * 25),
    *((Work(Kind.DECODE),) * 10),
)

_works = st.sampled_from(_WORKS)


def normal(one: Deployment) -> Deployment:
    """The nearest deployment that vLLM and vllm-ascend accept."""
    change: dict[str, object] = {}
    if one.mode is Mode.ACL_GRAPH and one.layers is Layers.CUSTOM:
        change["layers"] = Layers.GENERIC  # custom layers are barred from ACL graph (ascend_config.py)
    if one.mode is Mode.TORCHAIR:
        change["layers"] = Layers.CUSTOM
    layers = change.get("layers", one.layers)
    if one.drafter is Drafter.MTP and layers is not Layers.CUSTOM:
        change["drafter"] = Drafter.EAGLE
    drafter = change.get("drafter", one.drafter)
    if drafter is Drafter.EAGLE and one.mode is Mode.TORCHAIR:
        change["drafter"] = drafter = Drafter.MTP
    # One MTP layer drafts one token; Eagle drafts up to two (eagle_proposer_v1.py).
    change["drafts"] = {Drafter.NONE: 0, Drafter.MTP: 1}.get(drafter, max(1, one.drafts))  # type: ignore[call-overload]
    change["lmhead_parallel"] = one.lmhead_parallel and one.tp == 1 and one.dp > 1
    # With TP the groups of an MLP lie within a DP rank, or across a few. No release makes equal the rows of Eagle's own
    # MLP, or those of a prefill under TorchAir.
    change["mlp_parallel"] = (
        one.mlp_parallel
        and one.tp == 1
        and one.dp > 1
        and drafter is not Drafter.EAGLE
        and one.mode is not Mode.TORCHAIR
    )
    change["expert_parallel"] = one.expert_parallel and layers is not Layers.DENSE
    change["shared_expert_dp"] = (
        one.shared_expert_dp
        and bool(change["expert_parallel"])
        and layers is Layers.CUSTOM
        and one.mode is not Mode.TORCHAIR
    )
    change["dbo"] = one.dbo and layers is Layers.CUSTOM and one.mode is Mode.EAGER
    if one.mode is Mode.ACL_GRAPH:
        # vLLM captures no size above max_num_batched_tokens, and there is at least one.
        fitting = tuple(size for size in one.graph_sizes if size <= one.max_num_batched_tokens)
        change["graph_sizes"] = fitting or (1,)
    return dataclasses.replace(one, **change)  # type: ignore[arg-type]


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Deployments of every mode, SoC, size and role."""
    (tp, soc), (mode, layers) = draw(st.sampled_from(_HARDWARE)), draw(st.sampled_from(_MODELS))
    kv_role, (drafter, drafts) = draw(st.sampled_from(_ROLES))
    (max_num_seqs, max_num_batched_tokens), graph_sizes = draw(st.sampled_from(_SIZES))
    switches = draw(st.integers(0, 2**6 - 1))
    return normal(
        Deployment(
            dp=draw(st.sampled_from(_DP_SIZES)),
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
            kv_role=kv_role,
            drafter=drafter,
            drafts=drafts,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            graph_sizes=graph_sizes,
        )
    )


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """A deployment and up to `MAX_STEPS` steps of it."""
    deployment = draw(deployments())
    distinct = min(deployment.dp, DISTINCT_WORKS)
    one_step = st.tuples(*(_works,) * distinct)
    others = deployment.dp - distinct
    steps = []
    for _ in range(draw(st.integers(1, MAX_STEPS))):
        works = draw(one_step)
        picks = draw(st.binary(min_size=others, max_size=others)) if others else b""
        steps.append((*works, *(works[pick % distinct] for pick in picks)))
    return Schedule(deployment, tuple(steps))
