# SPDX-License-Identifier: Apache-2.0
"""The group of the metadata: which it is, what its communicator takes, and that no rank uses it before all are here."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import vllm
from vllm.config import ParallelConfig

from vllm_ascend.data_parallel import metadata_group as module
from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.metadata_group import (
    BUFFER_MB,
    agree_on_default,
    line_up,
    metadata_group,
    settings_of,
)
from vllm_ascend.data_parallel.settings import MetadataGroup, Settings
from vllm_ascend.data_parallel.told import key

RANKS = (0, 1, 2)


@pytest.fixture
def store() -> dist.Store:
    return dist.HashStore()


def test_no_rank_goes_on_before_the_last_has_come(store: dist.Store) -> None:
    left = [threading.Event() for _ in RANKS]

    def come(rank: int) -> None:
        line_up(store, RANKS, rank, None)
        left[rank].set()

    early = [threading.Thread(target=come, args=(rank,), daemon=True) for rank in RANKS[:-1]]
    for thread in early:
        thread.start()
    store.wait([key("line-up", 0) + f"/{rank}" for rank in RANKS[:-1]], timedelta(seconds=60))
    assert not any(event.is_set() for event in left)
    come(RANKS[-1])  # as late as it likes: the others wait for this, and for no time
    for thread in early:
        thread.join(60)
    assert all(event.is_set() for event in left)


def test_a_rank_that_does_not_come_is_named_with_the_setting(store: dist.Store) -> None:
    store.set(key("line-up", 0) + "/1", "")
    with pytest.raises(TimeoutError, match=r"world ranks 2 have not begun .* VLLM_ASCEND_DP_START_TIMEOUT"):
        line_up(store, RANKS, 0, 0.05)


@pytest.mark.parametrize(("on_hosts", "group"), [(False, MetadataGroup.DEVICE), (True, MetadataGroup.CPU)])
def test_the_release_says_where_the_metadata_goes_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch, on_hosts: bool, group: MetadataGroup
) -> None:
    monkeypatch.setattr(upstream, "metadata_on_hosts", lambda _: on_hosts)
    config = SimpleNamespace(parallel_config=SimpleNamespace())
    monkeypatch.delenv("VLLM_ASCEND_DP_METADATA_GROUP", raising=False)
    assert settings_of(config).metadata_group is group
    for told in MetadataGroup:
        monkeypatch.setenv("VLLM_ASCEND_DP_METADATA_GROUP", told.value)
        assert settings_of(config).metadata_group is told


def on_one_rank(rank: int, rendezvous: str, has_communicator: bool) -> None:
    """The group that a rank gets, beside one that carries the DP group's own collectives."""
    dist.init_process_group("hccl", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    own, cpu = dist.new_group([0, 1], backend="hccl"), dist.new_group([0, 1], backend="gloo")
    dp_group = SimpleNamespace(device_group=own, cpu_group=cpu, ranks=[0, 1], rank=rank)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "get_dp_group", lambda: dp_group)
        patch.setattr(module, "get_world_group", lambda: SimpleNamespace(cpu_group=cpu))
        patch.setattr(upstream, "has_dp_communicator", lambda _: has_communicator)
        assert metadata_group(None, Settings.read({"VLLM_ASCEND_DP_METADATA_GROUP": "cpu"})) is cpu
        group = metadata_group(None, Settings.read({}))
    assert (group is own) == has_communicator
    options: Any = group._get_backend(torch.device("cpu")).hccl_options
    assert options.hccl_config == ({} if has_communicator else {"hccl_buffer_size": BUFFER_MB})
    summed = torch.tensor([rank + 1])
    dist.all_reduce(summed, group=group)
    assert summed.item() == 3
    dist.destroy_process_group()


@pytest.mark.parametrize("has_communicator", [True, False])
def test_only_a_communicator_that_the_release_lacks_is_made_and_it_is_small(
    tmp_path: Path, has_communicator: bool
) -> None:
    mp.start_processes(
        on_one_rank, args=(str(tmp_path / "rendezvous"), has_communicator), nprocs=2, start_method="fork"
    )


def _config(eager: bool, experts: bool, parallel: bool, asynchronous: bool = False) -> Any:
    named = {"text_config": {"num_experts": 8}} if experts else {"layers": 2}
    hf_config = SimpleNamespace(to_dict=lambda: {"id2label": {0: "LABEL_0"}} | named)
    return SimpleNamespace(
        model_config=SimpleNamespace(enforce_eager=eager, hf_config=hf_config),
        parallel_config=SimpleNamespace(enable_expert_parallel=parallel),
        scheduler_config=SimpleNamespace(async_scheduling=asynchronous),
    )


def test_the_release_says_where_it_communicates_over_the_dp_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager: a dense model, one with its experts in parallel, one without."""
    from vllm_ascend import ascend_config

    compiler = SimpleNamespace(enabled=False)
    monkeypatch.setattr(ascend_config, "_ASCEND_CONFIG", SimpleNamespace(torchair_graph_config=compiler))
    found = [
        upstream.has_dp_communicator(_config(True, experts, parallel))
        for experts, parallel in ((False, False), (True, True), (True, False))
    ]
    assert found in ([False, False, True], [True, True, True])
    assert upstream.has_dp_communicator(_config(False, True, True)), "generic layers, or the release's metadata"


@pytest.mark.parametrize(("hccl", "sooner"), [("204", True), ("1800", False), ("0", False), (None, False)])
def test_no_rank_is_given_up_sooner_than_the_release_would(
    monkeypatch: pytest.MonkeyPatch, hccl: str | None, sooner: bool
) -> None:
    """Eager, in an ACL graph: releases that synchronise on the hosts, where gloo waits 30 minutes for a late rank."""
    told = SimpleNamespace(torchair_graph_config=SimpleNamespace(enabled=False), dp_allreduce_on_npu=False)
    monkeypatch.setattr(upstream, "get_ascend_config", lambda: told)
    monkeypatch.delenv("HCCL_EXEC_TIMEOUT", raising=False)
    if hccl is not None:
        monkeypatch.setenv("HCCL_EXEC_TIMEOUT", hccl)
    found = tuple(upstream.metadata_on_hosts(_config(eager, True, True)) for eager in (True, False))
    assert found == {
        "0.10.0": (sooner, sooner),
        "0.10.1.1": (sooner, False),
        "0.10.2": (False, False),
        "0.11.0": (False, False),
    }.get(vllm.__version__.partition("+")[0], (True, True))


@pytest.mark.parametrize("off_hosts", [False, True])
def test_async_scheduling_reads_no_device_unless_upstream_keeps_off_the_hosts(
    monkeypatch: pytest.MonkeyPatch, off_hosts: bool
) -> None:
    told = SimpleNamespace(torchair_graph_config=SimpleNamespace(enabled=False), dp_allreduce_on_npu=off_hosts)
    monkeypatch.setattr(upstream, "get_ascend_config", lambda: told)
    monkeypatch.delenv("HCCL_EXEC_TIMEOUT", raising=False)
    knows = hasattr(ParallelConfig, "sync_dp_state")  # 0.23.0
    assert upstream.metadata_on_hosts(_config(False, True, True, asynchronous=True)) is not (knows and off_hosts)


def test_ranks_take_the_default_of_the_first_that_comes(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though one of them has another HCCL_EXEC_TIMEOUT; one that is told keeps to that, and the agreement tells it."""
    monkeypatch.delenv("VLLM_ASCEND_DP_METADATA_GROUP", raising=False)
    monkeypatch.setattr(module, "_agreed", {})
    found, configs = [], []
    for on_hosts, told in ((True, None), (False, None), (True, "device")):
        config = _config(True, True, True)
        monkeypatch.setattr(upstream, "metadata_on_hosts", lambda _, on_hosts=on_hosts: on_hosts)
        if told is not None:
            monkeypatch.setenv("VLLM_ASCEND_DP_METADATA_GROUP", told)
        agree_on_default(config, store, 0)
        configs.append(config)  # none may take the place of another
        found.append(settings_of(config).metadata_group)
    assert found == [MetadataGroup.CPU, MetadataGroup.CPU, MetadataGroup.DEVICE]
