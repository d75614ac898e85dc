# SPDX-License-Identifier: Apache-2.0
"""What schedulers may give ranks, and schedules of it for a deployment."""

from __future__ import annotations

from hypothesis import strategies as st

from simulation.schedule import Deployment, Kind, Schedule, Work

MAX_STEPS = 4
# Ranks beyond this share a few works between them, so that a schedule of 32 ranks stays quick to draw.
DISTINCT_WORKS = 4
# Requests and tokens of a batch at most, of ranks that have about as many rows as MC2's kernel takes.
WIDE_LIMITS = (600, 1200)

# hypothesis pays for each draw, so that values that belong together are drawn together. A table's first entries are
# what failures shrink to; entries that come more than once are drawn more often.
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
_decodes = st.sampled_from([work for work in _WORKS if not work.kind.prefills])
_at_the_limits_of_mc2 = st.sampled_from(
    [
        *(Work(Kind.DECODE, requests=rows) for rows in (1, 256, 257, 512, 513)),
        Work(Kind.PREFILL, tokens=257),
        *((Work(Kind.IDLE),) * 5),
    ]
)


def _works_of(one: Deployment) -> st.SearchStrategy[Work]:
    if one.decodes_alone:
        return _decodes
    wide = (one.dp, one.tp, (one.max_num_seqs, one.max_num_batched_tokens)) == (16, 1, WIDE_LIMITS)
    return _at_the_limits_of_mc2 if wide and one.expert_parallel else _works


@st.composite
def schedules_of(draw: st.DrawFn, deployments: st.SearchStrategy[Deployment]) -> Schedule:
    """A deployment and up to `MAX_STEPS` steps of it."""
    deployment = draw(deployments)
    distinct = min(deployment.dp, DISTINCT_WORKS)
    one_step = st.tuples(*(_works_of(deployment),) * distinct)
    others = deployment.dp - distinct
    steps = []
    for _ in range(draw(st.integers(1, MAX_STEPS))):
        works = draw(one_step)
        picks = draw(st.binary(min_size=others, max_size=others)) if others else b""
        steps.append((*works, *(works[pick % distinct] for pick in picks)))
    return Schedule(deployment, tuple(steps))
