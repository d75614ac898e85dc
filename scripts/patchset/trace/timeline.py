# SPDX-License-Identifier: Apache-2.0
"""An alignment as one HTML page: a lane for each rank, a bar for each span, and nothing loaded from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from statistics import median
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from patchset.trace.align import Alignment
    from patchset.trace.load import RankTrace

_LEFT, _WIDTH, _LANE, _BAR = 130, 1040, 44, 24
# Steps drawn before the first difference, or before the last step: as many as can be told apart.
_BEFORE, _AFTER = 40, 4


@dataclass(frozen=True)
class Bar:
    """A span of one rank, in pixels, with the text that a reader sees on it; ``marked`` in the first other step."""

    x: float
    y: int
    width: float
    kind: str
    title: str
    marked: bool = False


@dataclass(frozen=True)
class Lane:
    """A rank's line of the picture."""

    y: int
    name: str
    host: str


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


def page(alignment: Alignment) -> str:
    """The whole page."""
    template = resources.files("patchset.trace").joinpath("timeline.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    bars = list(_bars(alignment))
    lanes = [Lane(_LANE * index, rank.name, rank.host) for index, rank in enumerate(alignment.ranks)]
    return environment.from_string(template).render(
        alignment=alignment,
        lanes=lanes,
        bars=bars,
        mark=min((bar.x for bar in bars if bar.marked), default=None),
        left=_LEFT,
        bar=_BAR,
        width=_LEFT + _WIDTH,
        height=_LANE * len(lanes),
    )


@dataclass(frozen=True)
class _Span:
    lane: int
    step: int
    begin: float
    seconds: float
    kind: str
    title: str


def _bars(alignment: Alignment) -> Iterator[Bar]:
    drawn = alignment.around(_BEFORE, _AFTER)
    offsets = clock_offsets(alignment.ranks)
    spans = [span for span in _spans(alignment.ranks, offsets) if span.step in drawn]
    if not spans:
        return
    origin = min(span.begin for span in spans)
    busy = max((span.begin + span.seconds - origin for span in spans if span.kind != "stuck"), default=0.0)
    # A last wait can be as long as thousands of steps; drawn to scale, it would leave them no room.
    longest = max(busy, 1e-3)
    shown = [(span, min(span.seconds, longest) if span.kind == "stuck" else span.seconds) for span in spans]
    scale = _WIDTH / max(span.begin + seconds - origin for span, seconds in shown)
    marked = alignment.difference.step if alignment.difference else None
    for span, seconds in shown:
        x, width = _LEFT + (span.begin - origin) * scale, max(seconds * scale, 0.5)
        yield Bar(round(x, 2), _LANE * span.lane, round(width, 2), span.kind, span.title, span.step == marked)


def _spans(ranks: Sequence[RankTrace], offsets: Mapping[int, float]) -> Iterator[_Span]:
    for lane, rank in enumerate(ranks):
        shift = offsets[rank.world_rank]
        for step in rank.steps.values():
            begin = step.issued + shift
            for kind, seconds in (("prepare", step.prepared_s), ("wait", step.waited_s), ("forward", step.forward_s)):
                if seconds is None:
                    break
                told = f"{rank.name}, step {step.step} ({step.what}): {kind} {1e3 * seconds:.2f} ms"
                yield _Span(lane, step.step, begin, seconds, kind, told)
                begin += seconds
        if rank.wait is not None:
            wait = rank.wait
            told = f"{rank.name}, step {wait.step}: {wait.collective} for {wait.seconds:.1f} s, {wait.at}"
            yield _Span(lane, wait.step, wait.since + shift, wait.seconds, "stuck", told)
