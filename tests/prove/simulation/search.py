# SPDX-License-Identifier: Apache-2.0
"""Draws schedules, checks each, and shrinks the first violation to the shortest schedule that shows it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from simulation import family
from simulation.checker import Detects, Finding, MakeRank, Outcome, simulate
from simulation.network import Network
from simulation.schedule import Schedule

Key = tuple[Any, ...]


class _Violated(Exception):  # noqa: N818
    """Tells hypothesis that a schedule shows a violation; one class for each key, so that it shrinks within one."""


@dataclass(frozen=True)
class Violation:
    """What was found, with the shortest schedule that shows it and how many schedules it took to find."""

    finding: Finding
    schedule: Schedule
    after: int


@dataclass
class Found:
    """The outcome of a search: schedules that were drawn before a violation, and the violation."""

    drawn: int = 0
    violation: Violation | None = None


def search(
    make: MakeRank,
    count: int,
    start: int,
    known: Callable[[Finding, Schedule], bool] = lambda *_: False,
    seen: Callable[[Schedule, Outcome], None] = lambda *_: None,
    watch: Callable[[Network], Detects] | None = None,
) -> Found:
    """Checks ``count`` schedules, and stops at the first violation that is not ``known``.

    ``start`` seeds the draws: the same seed and code draw the same schedules. ``seen`` is told of each schedule that
    was drawn, not of those that shrinking tries. ``watch`` makes each schedule's detector.
    """
    found = Found()
    classes: dict[Key, type[_Violated]] = {}

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
    )
    @given(family.module("strategies").schedules())
    def check(schedule: Schedule) -> None:
        outcome = simulate(schedule, make, watch)
        if found.violation is None:
            found.drawn += 1
            seen(schedule, outcome)
        finding = next((one for one in outcome.findings if not known(one, schedule)), None)
        if finding is not None:
            found.violation = Violation(finding, schedule, found.drawn)
            raise classes.setdefault(finding.key, type("_Violated", (_Violated,), {}))

    with suppress(_Violated):
        check()
    return found
