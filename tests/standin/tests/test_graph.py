# SPDX-License-Identifier: Apache-2.0
"""A captured graph computes from what its inputs hold at each replay."""

import pytest
import torch
import torch_npu
from torch import Tensor


def _captured(function, *args: Tensor) -> tuple[torch.npu.NPUGraph, Tensor]:
    graph = torch.npu.NPUGraph()
    with torch.inference_mode(), torch.npu.graph(graph, pool=torch.npu.graph_pool_handle()):
        return graph, function(*args)


def test_replay_reads_inputs_and_keeps_addresses() -> None:
    x = torch.ones(2, 3)
    graph, out = _captured(lambda x: (x * 2).t().contiguous().view(-1)[1:] + 1, x)
    address = out.data_ptr()
    x.copy_(torch.arange(6.0).view(2, 3))
    graph.replay()
    assert out.data_ptr() == address
    assert out.tolist() == ((x * 2).t().reshape(-1)[1:] + 1).tolist()


def test_replay_repeats_writes_in_place() -> None:
    x, total = torch.ones(2), torch.zeros(2)
    graph, _ = _captured(lambda x: total.add_(x), x)
    graph.replay()
    graph.replay()
    assert total.tolist() == [3, 3]


def test_what_a_replay_leaves_unwritten_keeps_what_was_there() -> None:
    """As the rows of padding of an attention's output: memory of a graph is given once."""
    rows = torch.tensor([1.0, 2.0])
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        output = torch.empty(4)
        output[:2].copy_(rows)
        doubled = output * 2
    output[2:] = 7.0
    rows.fill_(3.0)
    graph.replay()
    assert output.tolist() == [3.0, 3.0, 7.0, 7.0]
    assert doubled.tolist() == [6.0, 6.0, 14.0, 14.0]


def test_an_operator_reads_its_group_list_at_each_replay() -> None:
    x, weight, counts = torch.ones(4, 2), torch.stack((torch.eye(2), 5 * torch.eye(2))), torch.tensor([4, 0])

    def product(x: Tensor) -> Tensor:
        return torch_npu.npu_grouped_matmul(
            x=[x], weight=[weight], split_item=2, group_list_type=1, group_type=0, group_list=counts
        )[0]

    graph, out = _captured(product, x)
    assert out[:, 0].tolist() == [1, 1, 1, 1]
    counts.copy_(torch.tensor([1, 3]))
    graph.replay()
    assert out[:, 0].tolist() == [1, 5, 5, 5]


def test_python_operators_of_others_are_opened() -> None:
    library = torch.library.Library("vllm", "FRAGMENT")
    library.define("standin_probe(Tensor x, Tensor(a!) out) -> ()")
    runs = []

    def probe(x: Tensor, out: Tensor) -> None:
        runs.append(1)
        out.copy_(torch_npu.npu_swiglu(x))

    library.impl("standin_probe", probe, "PrivateUse1")
    x, out = torch.ones(1, 4), torch.zeros(1, 2)
    graph, _ = _captured(lambda x: torch.ops.vllm.standin_probe(x, out), x)
    x.fill_(2)
    graph.replay()
    assert len(runs) == 1, "the kernels are replayed, not the Python around them"
    torch.testing.assert_close(out, torch_npu.npu_swiglu(x))


def test_a_host_read_cannot_be_captured() -> None:
    with pytest.raises(RuntimeError, match="host reads"):
        _captured(lambda x: x * x.sum().item(), torch.ones(2))
    assert not torch.npu.is_current_stream_capturing()


def test_a_read_of_what_was_there_before_can_be_captured_without_a_trace() -> None:
    """Such as numbers of rows that the host has computed: vLLM's multicast slices by them."""
    rows = torch.tensor([1, 2])
    graph, out = _captured(lambda x: x[: rows[-1]] * 2, torch.ones(3))
    graph.replay()
    assert out.tolist() == [2, 2]


def test_a_shape_that_depends_on_data_is_refused() -> None:
    x = torch.tensor([1.0, 0.0])
    graph, _ = _captured(lambda x: torch.nonzero(x), x)
    x.fill_(1)
    with pytest.raises(RuntimeError, match="depends on data"):
        graph.replay()


def test_replay_without_capture() -> None:
    with pytest.raises(RuntimeError, match="not captured"):
        torch.npu.NPUGraph().replay()


def test_a_replay_waits_for_the_arguments_of_its_tasks() -> None:
    """As upstream's full decode graphs do: replay, new lengths, then the event for which the graph waits."""
    cache = torch.randn(2, 4, 1, 8)
    query, out, after = torch.randn(2, 1, 8), torch.zeros(2, 1, 8), torch.zeros(2, 1, 8)
    tables, event, graph = torch.tensor([[0], [1]]), torch.npu.ExternalEvent(), torch.npu.NPUGraph()
    stream = torch.npu.Stream()
    given, both = (query, cache, cache, 1, 1, 1.0, tables), torch.tensor([1, 1], dtype=torch.int32)
    workspace = torch_npu._npu_paged_attention_get_workspace(*given, both, out)

    def attend(lengths: list[int]) -> None:
        lens = torch.tensor(lengths, dtype=torch.int32)
        torch_npu._npu_paged_attention(*given, lens, out=out, workspace=workspace)

    with torch.inference_mode(), torch.npu.graph(graph):
        event.wait(stream)
        event.reset(stream)
        torch.npu.graph_task_group_begin(stream)
        attend([1, 1])
        tasks = torch.npu.graph_task_group_end(stream)
        after.copy_(out)
    attend([4, 3])
    want = out.clone()
    for lengths in ([4, 3], [2, 1], [4, 3]):
        after.zero_()
        graph.replay()
        assert not after.any(), "it waits"
        torch.npu.graph_task_update_begin(stream, tasks)
        attend(lengths)
        torch.npu.graph_task_update_end(stream)
        assert not after.any(), "an update runs nothing"
        event.record(stream)
        assert torch.equal(after, want) is (lengths == [4, 3])


def test_fused_attention_takes_other_lengths_as_a_task() -> None:
    graph, stream = torch.npu.NPUGraph(), torch.npu.Stream()
    query, cache, out = torch.randn(2, 1, 1, 4), torch.randn(2, 1, 3, 4), torch.zeros(2, 1, 1, 4)
    common = {"num_heads": 1, "input_layout": "BNSD", "block_table": torch.tensor([[0], [1]]), "block_size": 3}
    fused, results = torch_npu.npu_fused_infer_attention_score, [out, torch.zeros(2)]

    def attend(lengths: list[int]) -> None:
        fused.out(query, cache, cache, actual_seq_lengths_kv=lengths, out=results, **common)

    with torch.inference_mode(), torch.npu.graph(graph):
        torch.npu.graph_task_group_begin(stream)
        attend([1, 1])
        tasks = torch.npu.graph_task_group_end(stream)
    assert len(graph) == 1
    for lengths in ([3, 2], [1, 0]):
        torch.npu.graph_task_update_begin(stream, tasks)
        attend(lengths)
        torch.npu.graph_task_update_end(stream)
        graph.replay()
        want, _ = torch_npu.npu_fused_infer_attention_score(
            query, cache, cache, actual_seq_lengths_kv=lengths, **common
        )
        assert torch.equal(out, want)


def test_tasks_are_updated_as_they_were_captured() -> None:
    graph, stream, x = torch.npu.NPUGraph(), torch.npu.Stream(), torch.ones(2, 2)
    with torch.inference_mode(), torch.npu.graph(graph):
        torch.npu.graph_task_group_begin(stream)
        torch_npu.npu_swiglu(x)
        tasks = torch.npu.graph_task_group_end(stream)
    torch.npu.graph_task_update_begin(stream, tasks)
    try:
        with pytest.raises(RuntimeError, match="updates a task"):
            torch_npu.npu_rms_norm(x, x[0], 1e-6)
    finally:
        torch.npu.graph_task_update_end(stream)
    with pytest.raises(RuntimeError, match="outside of a capture"):
        torch.npu.graph_task_group_begin(stream)
