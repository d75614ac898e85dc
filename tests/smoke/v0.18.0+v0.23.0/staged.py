# SPDX-License-Identifier: Apache-2.0
"""Engine runs of ranks with two pipeline stages each, whose parallel layers have a group over the DP ranks."""

from dataclasses import dataclass, replace
from typing import Any

from checkpoints import Model
from grouped import GroupedRun
from job import DP2_ROUNDS, Tree

_SENT = tuple(turn for turn in DP2_ROUNDS if turn.name in ("one prompt", "spread"))


@dataclass(frozen=True)
class StagedRun(GroupedRun):
    """Each rank has a worker for each of two stages, in processes of their own."""

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        return f"{run}, two stages on {tree}"

    @property
    def script(self) -> str:
        return "staged_rank"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        stages = {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}
        return super().engine_arguments(checkpoint, storage) | stages


# Its first layer has an MLP, on the first stage; the head is on the last.
PATCHED = StagedRun(Tree.PATCHED, Model.DEEPSEEK_V3, mlp_parallel=True, lmhead_parallel=True, rounds=_SENT)
PRISTINE = replace(PATCHED, tree=Tree.PRISTINE, rounds=_SENT[:1])
PRISTINE_WHOLE = replace(PRISTINE, mlp_parallel=False, lmhead_parallel=False)
