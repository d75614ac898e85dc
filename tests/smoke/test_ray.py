# SPDX-License-Identifier: Apache-2.0
"""Ranks whose workers are Ray's: vLLM carries to them the settings that the ranks have, and their tokens are right."""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine
import faults
import pytest
from checkpoints import Model
from engine import Placement, started_ranks
from fork_server import Spawner
from job import Tree

pytestmark = [pytest.mark.shared, pytest.mark.standin]

SETTINGS = {"VLLM_ASCEND_DP_TIMEOUT": "47", "VLLM_ASCEND_DP_METADATA_GROUP": "cpu"}


@pytest.fixture
def head(bench: Any) -> Iterator[dict[str, str]]:
    """A head with two NPUs, in whose environment no setting is; what a driver on it has in its environment."""
    from ray.cluster_utils import Cluster

    found = bench.environment(Tree.PATCHED, traced=False)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", found["PYTHONPATH"])
        cluster = Cluster()
        try:
            resources = {"NPU": faults.RAY.dp_size}
            cluster.add_node(num_cpus=4, resources=resources, object_store_memory=80 << 20, include_dashboard=False)
            yield found | {"RAY_ADDRESS": str(cluster.address), "RAY_TMPDIR": folder}
        finally:
            cluster.shutdown()


def _said_by_workers(folder: Path, pattern: str) -> list[str]:
    """In Ray's files of the workers: what it hands on to the ranks lacks lines where the machine is busy."""
    files = sorted((folder / "ray" / "session_latest" / "logs").glob("worker-*"))
    return [found for file in files for found in re.findall(pattern, file.read_text(errors="replace"))]


def test_rays_workers_have_the_settings_and_the_right_tokens(
    bench: Any,
    head: dict[str, str],
    checkpoint: Callable[[Model], Path],
    expected: Callable[[Model], dict[int, list[int]]],
) -> None:
    run = faults.RAY
    placements = [Placement(Spawner(engine.RANK, head), SETTINGS)] * run.dp_size
    with started_ranks(run, checkpoint(run.model), bench.work / "ray", placements) as ranks:
        # The ranks themselves do nothing while Ray starts their workers, so that they say nothing of how far that is.
        ends = faults.ends(ranks, faults.START_LIMIT)
        assert all(end is not None and end.code == 0 for end in ends), ranks[0].log()[-5000:]
        want = expected(run.model)
        for number, rank in enumerate(ranks):
            for turn in run.rounds:
                (told,) = (
                    line["tokens"] for line in rank.lines() if line.get("round") == turn.name and "tokens" in line
                )
                assert told == {str(index): want[index] for index in turn.asked(number)}
        said = _said_by_workers(Path(head["RAY_TMPDIR"]), r"All 2 ranks run vllm-ascend build .*")
        assert len(said) == run.dp_size, said
        assert all("metadata_group=cpu, timeout=47," in one for one in said), said
