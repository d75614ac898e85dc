# SPDX-License-Identifier: Apache-2.0
"""Two sides that were measured in turn, each pair giving one ratio."""

import statistics


def compared(pairs: list[tuple[float, float]]) -> dict[str, object]:
    """Medians of (baseline, ours), and of their ratio."""
    ratios = [mine / theirs for theirs, mine in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = {side: statistics.median(pair[at] for pair in pairs) for at, side in enumerate(("baseline", "ours"))}
    return medians | {"ratio": statistics.median(ratios), "quartiles": [low, high]}
