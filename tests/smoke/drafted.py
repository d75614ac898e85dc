# SPDX-License-Identifier: Apache-2.0
"""Engine lives that decode speculatively, and the lm-head parallelism that goes wrong with it."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import drafters
from job import Life

LMHEAD_PARALLEL = 2


class Drafter(Enum):
    MTP = "MTP"
    EAGLE3 = "Eagle3"


@dataclass(frozen=True)
class DraftedLife(Life):
    """A life whose engine drafts tokens with ``drafter`` and, if asked, splits its lm head over the DP ranks."""

    drafter: Drafter = Drafter.MTP
    lmhead_parallel: bool = False

    def __str__(self) -> str:
        life, _, tree = super().__str__().rpartition(" on ")
        return f"{life}, {self.drafter.value}{', lm-head parallel' * self.lmhead_parallel} on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        match self.drafter:
            case Drafter.MTP:
                arguments["model"] = str(drafters.with_mtp_layer(Path(checkpoint)))
                arguments["speculative_config"] = {"method": "deepseek_mtp", "num_speculative_tokens": 1}
        if self.lmhead_parallel:
            arguments["additional_config"] |= {"lmhead_tensor_parallel_size": LMHEAD_PARALLEL}
        return arguments
