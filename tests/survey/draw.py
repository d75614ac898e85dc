# SPDX-License-Identifier: Apache-2.0
"""Draws deployments: a covering array in which every admissible pair of values occurs, in an order by the seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from covertable import make

from survey.space import Settings, Space

Pair = tuple[tuple[str, str], tuple[str, str]]


def covering(of: Space, seed: int) -> list[Settings]:
    """Deployments that have every admissible pair of values, in an order by ``seed``."""
    constraints = [
        {"operator": "fn", "requires": list(one.dimensions), "evaluate": one.admits} for one in of.exclusions
    ]
    factors = {name: list(values) for name, values in of.dimensions.items()}
    rows = make(factors, strength=2, salt=str(seed), constraints=constraints)
    found = [{name: str(row[name]) for name in of.dimensions} for row in rows]
    random.Random(seed).shuffle(found)
    return found


def draw(of: Space, count: int, seed: int) -> list[Settings]:
    """``count`` different deployments: covering arrays of ``seed`` and the numbers after it, one after the other."""
    found: dict[tuple[str, ...], Settings] = {}
    array = 0
    while len(found) < count:
        for row in covering(of, seed * 1000 + array):
            found.setdefault(tuple(row.values()), row)
        array += 1
    return list(found.values())[:count]


def pairs(settings: Mapping[str, str]) -> Iterator[Pair]:
    """Every two values of a deployment."""
    return combinations(settings.items(), 2)


def uncovered(of: Space, rows: Iterable[Settings]) -> set[Pair]:
    """Pairs of values that some admissible deployment has, and no row."""
    every = {
        ((one, a), (other, b))
        for one, other in combinations(of.dimensions, 2)
        for a in of.dimensions[one]
        for b in of.dimensions[other]
        if completes(of, {one: a, other: b})
    }
    return every - {pair for row in rows for pair in pairs(row)}


def completes(of: Space, settings: Settings) -> bool:
    """Whether some admissible deployment has ``settings``, which may lack dimensions."""
    if not of.admits(settings):
        return False
    lacking = next((name for name in of.dimensions if name not in settings), None)
    return lacking is None or any(completes(of, {**settings, lacking: value}) for value in of.dimensions[lacking])
