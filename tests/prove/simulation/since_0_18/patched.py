# SPDX-License-Identifier: Apache-2.0
"""A rank of the patched tree, whose runner has the overlay's mixin."""

from __future__ import annotations

from typing import Any

from simulation.checker import MakeRank
from simulation.schedule import Deployment
from simulation.since_0_18.rank import Rank
from vllm_ascend.data_parallel import runner
from vllm_ascend.data_parallel.recorder import NO_RECORDER
from vllm_ascend.data_parallel.settings import MetadataGroup, Settings


def _metadata_group(_: Any, settings: Settings) -> str:
    """The group's name in the simulated network, where no rank has to wait for another's start."""
    return "dp cpu" if settings.metadata_group is MetadataGroup.CPU else "dp device"


runner.metadata_group = _metadata_group
runner.join = lambda *_: NO_RECORDER


class _Joined(Rank):
    """A rank that has joined the others, as it does before it loads a model."""

    def __init__(self, deployment: Deployment, rank: int) -> None:
        super().__init__(deployment, rank)
        self._join_data_parallel()


make: MakeRank = _Joined
