# SPDX-License-Identifier: Apache-2.0
"""A rank of the patched tree, whose runner has the overlay's mixin."""

from __future__ import annotations

from typing import Any

from simulation.checker import MakeRank
from simulation.since_0_18.rank import Rank
from vllm_ascend.data_parallel import runner
from vllm_ascend.data_parallel.settings import MetadataGroup, Settings


def _metadata_group(_: Any, settings: Settings) -> str:
    """The group's name in the simulated network, where no rank has to wait for another's start."""
    return "dp cpu" if settings.metadata_group is MetadataGroup.CPU else "dp device"


runner.metadata_group = _metadata_group
make: MakeRank = Rank
