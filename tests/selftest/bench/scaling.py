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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, log2

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


@dataclass(frozen=True)
class Prediction:
    """One group at one size. ``ms`` is None where nothing was measured that could say it."""

    ranks: int
    group: str
    bytes: int
    rounds: int
    ms: float | None


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


def predictions(cost: Cost, sizes: Sequence[int] = RANKS) -> tuple[Prediction, ...]:
    """Every group at every size."""
    found = []
    for ranks in sizes:
        for group in (PRISTINE, CPU):
            words = words_of(group, ranks)
            size = words * (8 if group == CPU else 4)
            found.append(Prediction(ranks, group, size, 2 * (ranks - 1), cost.cluster(ranks, words) / 1000))
        found.append(Prediction(ranks, DEVICE, 4 * words_of(DEVICE, ranks), ceil(log2(ranks)), None))
    return tuple(found)
