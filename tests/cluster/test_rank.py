# SPDX-License-Identifier: Apache-2.0
"""One rank by itself: it tells a synchronisation that comes to something else from one that is right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from vllm_ascend.data_parallel.metadata import BitFields, StepMetadata


@pytest.fixture
def alone(kit: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs five steps of one rank, on the code that is in the kit."""
    monkeypatch.syspath_prepend(str(kit))
    from patchset.node.cluster.rank import Part, Rank
    from patchset.node.cluster.schedule import Schedule

    def run(group: str) -> Any:
        rank, schedule = Rank(), Schedule(seed=1, steps=5, ranks=1)
        return schedule, rank.run(Part(0, schedule, rank.open(10.0), on_npu=True, group=group, limit=10.0))

    yield run
    dist.destroy_process_group()
    for name in [name for name in sys.modules if name.partition(".")[0] == "patchset"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(("group", "backend"), [("device", "hccl"), ("cpu", "gloo")])
def test_a_right_synchronisation(alone: Any, group: str, backend: str) -> None:
    schedule, result = alone(group)
    assert result["device"] == f"npu, {backend}"
    assert result["digest"] == schedule.digest()
    assert result["wrong"] == ""


def test_a_wrong_one_is_told_with_its_first_step(alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack = BitFields.unpack

    def without_graph(fields: BitFields, packed: int) -> StepMetadata:
        return unpack(fields, packed)._replace(graph_usable=False)

    monkeypatch.setattr(BitFields, "unpack", without_graph)
    schedule, result = alone("device")
    assert result["digest"] != schedule.digest()
    first = next(step for step in range(5) if schedule.batches(step)[0][3])
    assert result["wrong"].startswith(f"step {first}: ")
