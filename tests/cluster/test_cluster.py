# SPDX-License-Identifier: Apache-2.0
"""`verify` and `smoke` on a cluster of raylets: what is fine, and every way in which a node or rank may not be."""

from __future__ import annotations

import json
import signal
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import LIMIT_S, NPUS, Answer, Nodes, Run, run

GRACE_S = 15.0
"""How much later than its timeout a run may end: it starts Python, and lets Ray go."""

# Far more than a test waits for: the run goes on until something is done to it.
ENDLESS = "--steps=1000000"


def changed_kit(kit: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A kit that expects something else."""
    other = folder / kit.name
    with zipfile.ZipFile(kit) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("/expected.json"):
                expected = json.loads(data)
                change(expected)
                data = json.dumps(expected).encode()
            target.writestr(name, data)
    return other


def rank_process(nodes: Nodes, name: str, patience: float) -> psutil.Process:
    """The rank on a node, once it makes steps: it has used more of the processor than its imports take."""
    deadline = time.monotonic() + patience
    while not (ranks := nodes.ranks(name)) or ranks[0].cpu_times().user < 4.0:
        assert time.monotonic() < deadline, f"no rank makes steps: {ranks}"
        time.sleep(0.1)
    return ranks[0]


def test_ranks_spread_over_patched_nodes_agree(all_fine: Answer) -> None:
    assert all_fine.code == 0
    assert all_fine.verdicts("nodes") == {"n0": "ok", "n1": "ok", "n2": "ok"}
    assert all_fine.verdicts("ranks") == {str(rank): "ok" for rank in range(4)}
    assert {row["node"].split()[-1] for row in all_fine.document["ranks"]} == {"n0", "n1", "n2"}
    assert {row["result"]["device"] for row in all_fine.document["ranks"]} == {"npu, hccl"}


def test_a_node_without_the_patches_is_named_and_no_ranks_run(nodes: Nodes, kit: Path, unpatched_node: str) -> None:
    answer = run(kit, "smoke", "--dp=2", f"--timeout={LIMIT_S}", f"--address={nodes.address}")
    assert answer.code == 1
    assert answer.verdicts("nodes") == {"n0": "ok", "n1": "ok", "n2": "ok", unpatched_node: "unpatched"}
    assert "without the patches" in answer.why(unpatched_node)
    assert answer.document["ranks"] == []
    assert "no smoke run, because not every node is fine" in answer.document["notes"]


def test_a_kit_of_another_build_names_the_files_that_differ(nodes: Nodes, kit: Path, tmp_path: Path) -> None:
    def other_build(expected: dict[str, Any]) -> None:
        expected["files"]["vllm_ascend/utils.py"] = "0" * 64
        expected["files"]["vllm_ascend/new.py"] = "1" * 64
        del expected["files"]["vllm_ascend/envs.py"]

    answer = run(
        changed_kit(kit, tmp_path, other_build), "verify", f"--timeout={LIMIT_S}", f"--address={nodes.address}"
    )
    assert answer.code == 1
    for row in answer.document["nodes"]:
        assert row["verdict"] == "differs"
        assert row["files"] == {
            "vllm_ascend/envs.py": "unknown",
            "vllm_ascend/new.py": "missing",
            "vllm_ascend/utils.py": "changed",
        }


def test_more_ranks_than_devices(nodes: Nodes, kit: Path) -> None:
    answer = run(kit, "smoke", f"--dp={3 * NPUS + 1}", f"--address={nodes.address}")
    assert answer.code == 2
    assert answer.document["error"]["message"] == "--dp 7: the cluster has 6 NPUs"
    assert answer.document["error"]["hint"] == "--dp 6 or less"


@pytest.mark.slow
def test_a_rank_or_node_that_hangs_is_a_row_and_not_a_hang(nodes: Nodes, kit: Path, all_fine: Answer) -> None:
    timeout = max(30.0, 4 * all_fine.seconds)
    smoke = Run(kit, "smoke", "--dp=3", ENDLESS, f"--timeout={timeout}", f"--address={nodes.address}")
    smoke.says("3 ranks make")
    rank = rank_process(nodes, "n2", patience=timeout)
    rank.send_signal(signal.SIGSTOP)
    # The kit goes on waiting for it, so the second kind can be shown in the same time.
    raylet = nodes.raylet("n1")
    raylet.send_signal(signal.SIGSTOP)
    short = max(12.0, 2 * all_fine.seconds)
    try:
        answer = run(kit, "verify", f"--timeout={short}", f"--address={nodes.address}")
        assert answer.code == 6
        assert answer.verdicts("nodes") == {"n0": "ok", "n1": "no answer", "n2": "ok"}
        assert answer.why("n1") == f"no answer in {short:.0f} s"
        assert answer.seconds < short + GRACE_S
    finally:
        raylet.send_signal(signal.SIGCONT)
    answer = smoke.answer()
    assert answer.code == 6
    assert "ok" not in answer.verdicts("ranks").values()
    assert {row["node"].split()[-1] for row in answer.document["ranks"] if row["verdict"] == "no answer"} >= {"n2"}
    assert answer.seconds < 2 * timeout + GRACE_S  # bounded; how closely depends on how busy the machine is
    gone = time.monotonic() + all_fine.seconds + GRACE_S
    while rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < gone, "the rank outlived the run"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_is_lost_until_it_comes_back(nodes: Nodes, kit: Path, all_fine: Answer) -> None:
    smoke = Run(kit, "smoke", "--dp=3", ENDLESS, f"--timeout={LIMIT_S}", f"--address={nodes.address}")
    smoke.says("3 ranks make")
    rank_process(nodes, "n2", patience=4 * all_fine.seconds + GRACE_S)
    nodes.kill("n2")
    answer = smoke.answer()
    assert answer.code == 6
    assert {row["node"].split()[-1] for row in answer.document["ranks"] if row["verdict"] == "lost"} == {"n2"}
    assert answer.seconds < LIMIT_S / 2  # the others' collectives fail, or are not waited for

    answer = run(kit, "verify", "--nodes=3", f"--timeout={LIMIT_S}", f"--address={nodes.address}")
    assert answer.code == 6
    assert answer.verdicts("nodes") == {"n0": "ok", "n1": "ok", "n2": "lost"}
    assert answer.document["missing"] == ["2 of 3 nodes are in the cluster"]

    nodes.start("n2")
    answer = run(kit, "verify", "--nodes=3", f"--timeout={LIMIT_S}", f"--address={nodes.address}")
    assert answer.code == 0
    assert answer.verdicts("nodes") == {"n0": "ok", "n1": "ok", "n2": "ok"}


def test_no_cluster_at_the_address(kit: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    answer = run(kit, "smoke", "--dp=2", f"--address={address}")
    assert answer.code == 6
    assert answer.document["error"]["message"].startswith(f"no Ray cluster at {address}: ")
    assert answer.seconds < GRACE_S


def test_something_else_than_ray_at_the_address(kit: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        answer = run(kit, "verify", "--timeout=3", f"--address={address}")
    assert answer.code == 6
    assert answer.document["missing"] == ["Ray named no nodes in 3 s"]
    assert answer.seconds < 3 + GRACE_S


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port"])
def test_a_malformed_address(kit: Path, address: str) -> None:
    answer = run(kit, "verify", f"--address={address}")
    assert answer.code == 2
    assert answer.document["error"]["message"] == f"{address!r} is no address of a cluster"
