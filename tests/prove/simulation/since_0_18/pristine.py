# SPDX-License-Identifier: Apache-2.0
"""A rank of a pristine release: upstream's runner alone."""

from __future__ import annotations

from simulation.checker import MakeRank
from simulation.since_0_18.rank import Rank

make: MakeRank = Rank
