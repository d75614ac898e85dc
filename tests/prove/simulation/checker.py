# SPDX-License-Identifier: Apache-2.0
"""Runs a schedule on all ranks, and holds what they did against the invariants."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from simulation import planted, world
from simulation.network import Hang, Mismatch, Network
from simulation.planted import Detects
from simulation.record import Forward, Invariant
from simulation.schedule import Deployment, Schedule

_MUST_BE_EQUAL: dict[Invariant, Callable[[Forward], Any]] = {
    Invariant.GRAPH: lambda one: one.graph or "eager",
    Invariant.MOE: lambda one: one.moe,
    Invariant.SIZE: lambda one: one.rows,
}

MakeRank = Callable[[Deployment, int], Any]


@dataclass(frozen=True)
class Finding:
    """A violated invariant.

    ``exchanged`` says that the ranks had told each other about the step; ``agreed`` that they then computed with the
    same with_prefill. Both come from what the ranks did, and tell one cause from another.
    """

    invariant: Invariant
    step: int
    exchanged: bool
    agreed: bool
    what: str

    @property
    def key(self) -> tuple[Invariant, bool, bool, str]:
        """Findings with one key have one cause, as far as the ranks' behaviour shows."""
        told_apart = self.invariant in (Invariant.CAPACITY, Invariant.CRASH)
        return self.invariant, self.exchanged, self.agreed, re.sub(r"[\d\[\], ]+", " ", self.what) if told_apart else ""


@dataclass(frozen=True)
class Outcome:
    """What a schedule came to: ``refused`` at start with a message, or run, with what was found."""

    findings: tuple[Finding, ...] = ()
    refused: str = ""
    collectives: int = 0
    forwards: tuple[Forward, ...] = ()
    """Of rank 0."""
    verdict: str | None = None
    """The watchdog's on ranks that could not go on, where one was asked for."""
    planted: str = ""
    """What it made of the same schedule with a divergence of one rank, where all ranks went through."""


def simulate(schedule: Schedule, make: MakeRank, watch: Callable[[Network], Detects] | None = None) -> Outcome:
    """Runs a schedule on ranks of the tree that ``make`` belongs to, with a detector where there is one.

    The detector then sees the schedule again, with a divergence.
    """
    with torch.inference_mode():
        network = world.enter(schedule.deployment)
        try:
            ranks = [make(schedule.deployment, rank) for rank in range(schedule.deployment.dp)]
        except ValueError as error:
            return Outcome(refused=str(error))
        detector = watch(network) if watch else None
        works = [list(works) for works in zip(*schedule.steps, strict=True)]
        trouble: tuple[Invariant, str] | None = None
        try:
            network.run([partial(rank.run, work) for rank, work in zip(ranks, works, strict=True)])
        except Mismatch as error:
            trouble = Invariant.COLLECTIVES, str(error)
        except Hang as error:
            trouble = Invariant.LIVENESS, str(error)
        except Exception as error:  # whatever a rank raises ends it, and with it the deployment
            if _raised_by_mutant(error):
                raise
            trouble = Invariant.CRASH, f"{type(error).__name__}: {error}"
        outcome = Outcome(
            findings=(*_findings(ranks, trouble, schedule.deployment), *_on_hosts(network, schedule.deployment)),
            collectives=len(network.calls),
            forwards=tuple(ranks[0].record.forwards),
        )
        verdict = None
        if detector and trouble and trouble[0] in (Invariant.COLLECTIVES, Invariant.LIVENESS):
            verdict = detector.stopped().name
        network.close()
    outcome, wrong = replace(outcome, verdict=verdict), detector.wrong if detector else ""
    if watch and not (trouble or wrong) and network.size > 1 and network.calls:
        became, wrong = planted.judged(watch, schedule, network.size, network.calls)
        outcome = replace(outcome, planted=became)
    if wrong:
        found = Finding(Invariant.DETECTION, 0, True, True, wrong)
        return replace(outcome, findings=(found, *outcome.findings))
    return outcome


def _on_hosts(network: Network, deployment: Deployment) -> list[Finding]:
    if not deployment.counts_on_device:
        return []
    calls = [call for call in network.calls if call.metadata and call.group == world.HOSTS]
    return [Finding(Invariant.HOSTS, 1, True, True, str(call)) for call in calls[:1]]


def _raised_by_mutant(error: Exception) -> bool:
    """Whether a mutant is broken itself: it must be found by what it does to the tree, not by its own mistake."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = [file for file in files if "vllm_ascend" in file or "simulation" in file]
    return bool(ours) and Path(ours[-1]).name == "mutants.py"


def _findings(ranks: list[Any], trouble: tuple[Invariant, str] | None, deployment: Deployment) -> list[Finding]:
    found: list[Finding] = []
    step, exchanged, agreed = 0, True, True
    for number in range(max(len(rank.record.forwards) for rank in ranks)):
        together = {rank.dp_rank: rank.record.forwards[number] for rank in ranks if number < len(rank.record.forwards)}
        first_rank, first = next(iter(together.items()))
        if any((one.step, one.what) != (first.step, first.what) for one in together.values()):
            break  # out of step: the network says how
        if first.step > step:
            step, exchanged, agreed = first.step, True, True
        exchanged &= all(one.exchanged for one in together.values()) or len(ranks) == 1
        agreed &= len({one.with_prefill for one in together.values()}) == 1
        uniform = any(one.uniform for one in together.values())
        for invariant, differs in () if deployment.agrees_on_nothing else _MUST_BE_EQUAL.items():
            if invariant is Invariant.SIZE and not uniform:
                continue
            for rank, one in together.items():
                if differs(one) != differs(first):
                    what = f"{first.what}: rank {first_rank} {differs(first)}, rank {rank} {differs(one)}"
                    found.append(Finding(invariant, first.step, exchanged, agreed, what))
                    break
    step = max(rank.step_number for rank in ranks)
    for rank in ranks:
        found += [
            Finding(Invariant.CAPACITY, number, exchanged, agreed, f"rank {rank.dp_rank}: {what}")
            for number, what in rank.record.exceeded
        ]
        found += [
            Finding(Invariant.PADDING, number, exchanged, agreed, f"rank {rank.dp_rank}: {what}")
            for number, what in rank.record.padded
        ]
        found += [
            Finding(Invariant.ROUNDS, number, exchanged, agreed, f"rank {rank.dp_rank}: {rounds} metadata collectives")
            for number, rounds in rank.record.rounds
        ]
    if trouble is not None:
        found.append(Finding(trouble[0], step, exchanged, agreed, trouble[1]))
    return found
