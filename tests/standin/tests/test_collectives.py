# SPDX-License-Identifier: Apache-2.0
"""The backend "hccl" between two processes."""

from typing import Any

from ranks import found_by


def _rank(rank: int, port: int, queue: Any) -> None:
    import torch
    import torch.distributed as dist
    from torch_npu._C._distributed_c10d import ProcessGroupHCCL

    dist.init_process_group("hccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found: dict[str, Any] = {"backend": dist.get_backend()}
    x = torch.tensor([1 + rank], device="npu")
    dist.all_reduce(x)
    found["sum"] = x.item()
    received = [torch.empty(1 + rank), torch.empty(1 + rank)]
    dist.all_to_all(received, [torch.full((1,), float(rank)), torch.full((2,), float(10 + rank))])
    found["exchanged"] = [t.tolist() for t in received]
    group = dist.group.WORLD._get_backend(torch.device("npu"))
    found["named"] = isinstance(group, ProcessGroupHCCL) and bool(group.get_hccl_comm_name(rank))
    graph, out = torch.npu.NPUGraph(), torch.empty(2)
    mine = torch.tensor([float(rank)])
    with torch.npu.graph(graph):
        dist.all_gather_into_tensor(out, mine)
    mine.add_(5)
    graph.replay()
    found["replayed"] = out.tolist()
    functional = torch.npu.NPUGraph()
    operations = torch.ops._c10d_functional
    with torch.npu.graph(functional):  # as Dynamo writes it
        gathered = operations.all_gather_into_tensor(mine, 2, dist.group.WORLD.group_name)
        doubled = operations.wait_tensor(gathered) * 2
    mine.add_(5)
    functional.replay()
    found["functional"] = doubled.tolist()
    queue.put((rank, found))
    dist.destroy_process_group()


def test_two_ranks() -> None:
    found = found_by(_rank, 2)
    assert found[0] == {
        "backend": "hccl", "sum": 3, "exchanged": [[0.0], [1.0]], "named": True, "replayed": [5.0, 6.0],
        "functional": [20.0, 22.0],
    }  # fmt: skip
    assert found[1]["exchanged"] == [[10.0, 10.0], [11.0, 11.0]]
    assert found[1]["replayed"] == [5.0, 6.0]
