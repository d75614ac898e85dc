# SPDX-License-Identifier: Apache-2.0
"""Which layers exchange rows between DP ranks, and so need the same number of rows on each of them.

The lm head is none of them: these releases give it one constant number of rows in every step; 0.23.0 gives the
embedding one, too.
"""

from __future__ import annotations

from enum import Enum
from typing import Mapping


class RowGroup(Enum):
    """A family of layers that upstream can split over a group of its own, across DP ranks."""

    EMBEDDING = "embedding"
    MLP = "MLP"
    O_PROJ = "o_proj"


def spans_dp_ranks(sizes: Mapping[RowGroup, int]) -> bool:
    """Whether some group is there: upstream makes each of ranks with the same place in their DP ranks."""
    return any(size > 1 for size in sizes.values())
