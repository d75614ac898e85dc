# SPDX-License-Identifier: Apache-2.0
"""The ranks side by side, step by step, and the first step in which they differ. Steps have numbers, and each begins
with one collective of all ranks: step n of one rank is step n of every other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

from patchset.trace.load import Decision, RankTrace, Step


@dataclass(frozen=True)
class Difference:
    """The first step in which ranks differ: its number, in what, and what each rank has, by its name."""

    step: int
    what: str
    by_rank: Mapping[str, str]

    def __str__(self) -> str:
        sides: dict[str, list[str]] = {}
        for rank, value in self.by_rank.items():
            sides.setdefault(value, []).append(rank)
        told = "; ".join(f"{', '.join(ranks)}: {value}" for value, ranks in sides.items())
        return f"step {self.step}: {self.what} differs: {told}"


@dataclass(frozen=True)
class Alignment:
    ranks: Sequence[RankTrace]  # those that left a trace, by number
    silent: Sequence[int]  # DP ranks that left none
    first: int | None  # the oldest step that every rank still remembers; None where there is none
    difference: Difference | None  # None where the ranks agree as far as they remember

    @property
    def ok(self) -> bool:
        return not self.silent and self.difference is None

    @property
    def verdict(self) -> str:
        """What went wrong, as far as the traces show it."""
        found = [] if self.difference is None else [f"first difference in {self.difference}"]
        if self.silent:
            why = ": stopped, killed, or its file was not given; the others agree up to the step that they wait in"
            why = "" if self.difference else why
            found.append(f"no trace of DP rank {', '.join(map(str, self.silent))}{why}")
        return "; ".join(found) or "all ranks agree in every step that they remember"

    def around(self, before: int, after: int) -> range:
        """Numbers of the steps around the first difference; where there is none, of the last ones."""
        known = [number for rank in self.ranks for number in rank.steps]
        if not known:
            return range(0)
        middle = max(known) if self.difference is None else self.difference.step
        return range(max(min(known), middle - before), min(max(known), middle + after) + 1)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "silent": list(self.silent),
            "first_common_step": self.first,
            "difference": None if self.difference is None else asdict(self.difference),
            "ranks": [{**asdict(rank), "steps": [asdict(step) for step in rank.steps.values()]} for rank in self.ranks],
        }


def line_up(ranks: Sequence[RankTrace]) -> Alignment:
    """Compares traces of one run, as `load_all` gives them."""
    present = {rank.rank for rank in ranks}
    silent = [number for number in range(ranks[0].dp_size) if number not in present]
    remembered = [min(rank.steps, default=0) for rank in ranks]
    first = max(remembered) if all(remembered) else None
    return Alignment(ranks, silent, first, next(_differences(ranks, first or 1), None))


def _differences(ranks: Sequence[RankTrace], first: int) -> Iterator[Difference]:
    for number in range(first, max(rank.last for rank in ranks) + 1):
        having = {rank: rank.steps[number] for rank in ranks if number in rank.steps}
        yield from _decisions(number, having)
        yield from _told(number, having)
        if len(having) < len(ranks) and not all(step.alone for step in having.values()):
            reached = f"reached step {number}"
            stages = {rank.name: f"in step {rank.last}" if rank.last < number else reached for rank in ranks}
            yield Difference(number, "who has come to it", stages)
    yield from _waits(ranks)


def _decisions(number: int, having: Mapping[RankTrace, Step]) -> Iterator[Difference]:
    decided = {rank: step.decision for rank, step in having.items() if step.decision is not None}
    for field in fields(Decision):
        values = {rank: str(getattr(made, field.name)) for rank, made in decided.items()}
        yield from _unequal(number, f"the decision ({field.name})", values)
    full = {rank: ", ".join(step.collectives) for rank, step in having.items() if step.decision is not None}
    yield from _unequal(number, "the sequence of collectives", full)


def _told(number: int, having: Mapping[RankTrace, Step]) -> Iterator[Difference]:
    """A rank brought one number of tokens, and the others were told another."""
    for rank, step in having.items():
        heard = {
            other.name: f"was told {made.decision.tokens_per_rank[rank.rank]}"
            for other, made in having.items()
            if made.decision is not None and made.decision.tokens_per_rank[rank.rank] != step.batch.num_tokens
        }
        if heard:
            told = {**heard, rank.name: f"brought {step.batch.num_tokens}"}
            yield Difference(number, f"the number of tokens of {rank.name}", told)


def _waits(ranks: Sequence[RankTrace]) -> Iterator[Difference]:
    """All ranks are in the same step: do they wait in the same collective of it?"""
    waiting = {rank: rank.wait for rank in ranks if rank.wait is not None}
    if len({wait.agreed for wait in waiting.values()}) > 1:
        number = max(wait.step for wait in waiting.values())
        yield Difference(number, "what they wait in", {rank.name: wait.collective for rank, wait in waiting.items()})


def _unequal(number: int, what: str, values: Mapping[RankTrace, str]) -> Iterator[Difference]:
    if len(set(values.values())) > 1:
        yield Difference(number, what, {rank.name: value for rank, value in values.items()})


def clock_offsets(ranks: Sequence[RankTrace]) -> dict[int, float]:
    """Seconds to add to a rank's clock, by world rank, so that it fits the first rank's. The metadata of a step comes
    to all ranks at nearly the same moment, so the median over the steps of the difference between those moments is the
    difference of the clocks."""
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


def timeline(alignment: Alignment) -> dict[str, Any]:
    """Trace-event JSON, which ui.perfetto.dev draws: a process for each rank, a moment in each where ranks differ.
    Format: "Trace Event Format" of the Chromium project; "X" is a span, "i" a moment, "M" a name; times in µs."""
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
