# SPDX-License-Identifier: Apache-2.0
"""How the metadata of a step costs with the number of ranks: a model of gloo's ring, fitted to measured steps.

An all-reduce over a ring of n ranks takes 2(n-1) rounds, whatever is sent. gloo cuts a short vector into its words,
and sends each as a message of its own in every round (gloo/allreduce.cc, up to 2n words), so that with w words::

    T(n, w) = base + 2(n-1) (hop + w * word / cores)       measured here, where n ranks share this machine's cores
    T(n, w) = base + 2(n-1) (hop + w * word / n)           on a cluster, where every rank has a core

``base`` is what a step costs without its collective, ``hop`` the time from one rank to the next, ``word`` the
processor time of a message. HCCL cannot be measured without NPUs: of the device group only the bytes are known, and
that a tree or halving-doubling takes log2(n) rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil

from selftest.bench.pairs import Row, counted

RANKS = (32, 256, 1024)
PRISTINE, DEVICE, CPU = "pristine, gloo", "patched, device group", "patched, CPU group"
# With batches of up to 8192 tokens a rank's field has 16 bits.
FIELD_BITS = 16


@dataclass(frozen=True)
class Sample:
    """A measured step: ranks, words reduced, microseconds."""

    ranks: int
    words: int
    us: float


@dataclass(frozen=True)
class Cost:
    """The fitted model, in microseconds; ``error`` is the median relative error over the samples."""

    base: float
    hop: float
    word: float
    cores: int
    error: float

    def here(self, ranks: int, words: int) -> float:
        """Microseconds of a step where all ranks share this machine."""
        return self.base + 2 * (ranks - 1) * (self.hop + words * self.word / self.cores)

    def cluster(self, ranks: int, words: int) -> float:
        """Microseconds of a step where every rank has a core."""
        return self.base + 2 * (ranks - 1) * (self.hop + words * self.word / ranks)


def fit(samples: Sequence[Sample], cores: int) -> Cost:
    """Least squares of the relative errors, with no part below zero.

    >>> true = Cost(50, 20, 4, 2, 0)
    >>> found = fit([Sample(n, w, true.here(n, w)) for n in (2, 4, 8, 16) for w in (1, n, n // 2)], 2)
    >>> round(found.base), round(found.hop), round(found.word), round(found.error, 6)
    (50, 20, 4, 0.0)
    """
    import numpy as np

    rows = [(1.0, 2.0 * (one.ranks - 1), 2.0 * (one.ranks - 1) * one.words / cores) for one in samples]
    measured = np.array([one.us for one in samples])
    relative, ones = np.array(rows) / measured[:, None], np.ones(len(samples))
    # Three unknowns: of all choices of which are zero, the best whose others are not negative.
    best, least = np.zeros(3), np.inf
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            solution = np.zeros(3)
            solution[list(chosen)] = np.linalg.lstsq(relative[:, chosen], ones, rcond=None)[0]
            residual = float(np.square(relative @ solution - 1).sum())
            if solution.min() >= 0 and residual < least:
                best, least = solution, residual
    base, hop, word = (float(value) for value in best)
    return Cost(base, hop, word, cores, float(np.median(np.abs(relative @ best - 1))))


def words_of(group: str, ranks: int) -> int:
    """Words that a group's all-reduce has: upstream's counts and two flags, or a field of bits for each rank."""
    if group == PRISTINE:
        return ranks + 2
    return ceil(ranks * FIELD_BITS / (64 if group == CPU else 32))


def samples(least: Mapping[str, Mapping[str, float]]) -> list[Sample]:
    """Of the least microseconds of a step by ranks and side, as collective.py has them."""
    sides = {"pristine": PRISTINE, "device": DEVICE, "cpu": CPU}
    return [
        Sample(int(ranks), words_of(sides[side], int(ranks)) if side in sides else 1, one[side])
        for ranks, one in least.items()
        for side in (*sides, "word")
    ]


def rows(cost: Cost) -> list[Row]:
    """What more ranks cost, each with a core of its own; the fit's error is in the question."""
    question = f"Growth by ranks over gloo, from a model that fits the steps above to within {cost.error:.0%}"
    found = []
    for ranks in RANKS:
        upstream, ours = (words_of(group, ranks) for group in (PRISTINE, CPU))
        before, now = (cost.cluster(ranks, words) / 1000 for words in (upstream, ours))
        name = f"DP {ranks}, CPU group, {2 * (ranks - 1)} rounds (ms)"
        found.append(counted(question, name, PRISTINE, before, now, 1.0))
        found.append(counted(question, f"DP {ranks}, bytes of a step", PRISTINE, 4 * upstream, 8 * ours, 1.0))
    return found
