# SPDX-License-Identifier: Apache-2.0
"""An alignment as trace-event JSON, which ui.perfetto.dev and chrome://tracing draw: a process for each rank.

Format: "Trace Event Format" of the Chromium project; "X" is a span, "i" a moment, "M" a name; times in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from patchset.trace.align import Alignment
from patchset.trace.load import RankTrace


def clock_offsets(ranks: Sequence[RankTrace]) -> dict[int, float]:
    """Seconds to add to a rank's clock, by world rank, so that it fits the first rank's.

    The metadata of a step comes to all ranks at nearly the same moment, so the median over the steps of the difference
    between those moments is the difference of the clocks.
    """
    reference = {number: step.known for number, step in ranks[0].steps.items()}
    offsets = {}
    for rank in ranks:
        apart = [
            seen - step.known
            for number, step in rank.steps.items()
            if step.known is not None and (seen := reference.get(number)) is not None
        ]
        offsets[rank.world_rank] = median(apart) if apart else 0.0
    return offsets


def document(alignment: Alignment) -> dict[str, Any]:
    """The whole file; where ranks differ, the first step that does is a moment in each of them."""
    offsets = clock_offsets(alignment.ranks)
    differing = alignment.difference.step if alignment.difference else None
    found = [one for rank in alignment.ranks for one in _of_rank(rank, offsets[rank.world_rank], differing)]
    return {"displayTimeUnit": "ms", "otherData": {"verdict": alignment.verdict}, "traceEvents": found}


def _of_rank(rank: RankTrace, shift: float, differing: int | None) -> Iterator[dict[str, Any]]:
    who = {"pid": rank.world_rank, "tid": rank.world_rank}
    yield {"ph": "M", "name": "process_name", **who, "args": {"name": f"{rank.name}, {rank.host}"}}
    for step in rank.steps.values():
        begin = step.issued + shift
        if step.step == differing:
            yield {"ph": "i", "name": "first step that differs", "s": "p", "ts": 1e6 * begin, **who}
        told = {"step": step.step, "what": step.what}
        for name, seconds in (("prepare", step.prepared_s), ("wait", step.waited_s), ("forward", step.forward_s)):
            if seconds is None:
                break
            yield {"ph": "X", "name": name, "ts": 1e6 * begin, "dur": 1e6 * seconds, **who, "args": told}
            begin += seconds
    if (wait := rank.wait) is not None:
        told = {"step": wait.step, "at": wait.at}
        times = {"ts": 1e6 * (wait.since + shift), "dur": 1e6 * wait.seconds}
        yield {"ph": "X", "name": f"stuck in {wait.collective}", **times, **who, "args": told}
