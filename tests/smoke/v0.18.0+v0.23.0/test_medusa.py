# SPDX-License-Identifier: Apache-2.0
"""Medusa: heads on the target's hidden states, which exchange nothing: no step of theirs may wait for a rank."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import drafters
import pytest
from engine import Outcome, Report, finished
from job import DP2_ROUNDS, EngineRun, Mode, Round, Tree

ReportOf = Callable[[EngineRun], Report]
Asked = Callable[[EngineRun, Round], dict[int, list[int]]]
Seen = Callable[[str], None]

HEADS = 2


def medusa_heads(target: Path) -> Path:
    """``HEADS`` heads of one layer each for ``target``."""

    def change(config: dict[str, Any], _: Any) -> tuple[dict[str, Any], Any]:
        width, vocabulary = config["hidden_size"], config["vocab_size"]
        shapes = {f"blocks.{head}.layers.0": (width, width) for head in range(HEADS)}
        shapes |= {f"lm_heads.{head}": (vocabulary, width) for head in range(HEADS)}
        own = {"model_type": "medusa", "architectures": ["MedusaModel"], "num_heads": HEADS, "num_hidden_layers": 1}
        return {"hidden_size": width, "vocab_size": vocabulary, **own}, drafters._random(shapes)

    return drafters._derived(target, "medusa", change)


@dataclass(frozen=True)
class MedusaRun(EngineRun):
    """A run whose engine drafts by Medusa."""

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        return f"{run}, Medusa on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        heads = {"method": "medusa", "model": str(medusa_heads(Path(checkpoint))), "num_speculative_tokens": HEADS}
        return super().engine_arguments(checkpoint, storage) | {"speculative_config": heads}


EAGER = MedusaRun(Tree.PATCHED)
GRAPH = replace(EAGER, mode=Mode.ACL_GRAPH)
PRISTINE = replace(EAGER, tree=Tree.PRISTINE, rounds=tuple(turn for turn in DP2_ROUNDS if turn.name == "one prompt"))


@pytest.mark.defect("D35")
@pytest.mark.parametrize("run", [PRISTINE], ids=str)
def test_pristine_idle_rank_waits_for_counts_of_its_drafter(report_of: ReportOf, run: EngineRun, seen: Seen) -> None:
    report = report_of(run)
    assert report.ready and report.outcome in (Outcome.HANG, Outcome.ABORT), str(report)
    seen(report.outcome.value)


@pytest.mark.defect("D35")
@pytest.mark.parametrize("run", [EAGER, GRAPH], ids=str)
def test_tokens_with_medusa(report_of: ReportOf, asked: Asked, run: EngineRun, seen: Seen) -> None:
    report = finished(report_of(run))
    for turn in run.rounds:
        assert report.tokens(turn.name) == asked(run, turn), turn.name
    seen("answers")
