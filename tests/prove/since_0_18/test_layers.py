# SPDX-License-Identifier: Apache-2.0
"""The collectives that the simulator has for layers against those of upstream's real layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from vllm_ascend.ops import linear_op, vocab_parallel_embedding
from vllm_ascend.ops.fused_moe import prepare_finalize

from simulation import groups
from simulation.network import Call
from simulation.since_0_18 import wire
from simulation.since_0_18.releases import THIS
from vllm_ascend import utils


class Recorded:
    """A group that records what is asked of it, and answers with the right shapes."""

    device_group = None

    def __init__(self, size: int, name: str = "dp device") -> None:
        self.world_size, self.rank_in_group, self.name, self.calls = size, 0, name, []

    def all_gather(self, tensor: torch.Tensor, dim: int = 0) -> torch.Tensor:
        self.calls.append(Call(self.name, "all_gather", (tensor.shape[0],)))
        return torch.cat([tensor] * self.world_size, dim)

    def reduce_scatter(self, tensor: torch.Tensor, dim: int = 0) -> torch.Tensor:
        self.calls.append(Call(self.name, "reduce_scatter", (tensor.shape[0],)))
        return tensor[: tensor.shape[0] // self.world_size]

    def all_gather_into(self, _: torch.Tensor, tensor: torch.Tensor, **__: Any) -> None:
        self.calls.append(Call(self.name, "all_gather", (tensor.shape[0],)))

    def reduce_scatter_from(self, _: torch.Tensor, tensor: torch.Tensor, **__: Any) -> None:
        self.calls.append(Call(self.name, "reduce_scatter", (tensor.shape[0],)))

    def all_to_all_single(self, out: torch.Tensor, tensor: torch.Tensor, **_: Any) -> None:
        self.calls.append(Call(self.name, "all_to_all", (tensor.numel(),)))


def context_of(rows: tuple[int, ...], tp: int) -> Any:
    """What a forward context says of a step with these rows."""
    padded = -(-max(rows) // tp) * tp
    return SimpleNamespace(
        max_tokens_across_dp=max(rows),
        padded_num_tokens=padded,
        mc2_mask=torch.zeros(padded, dtype=torch.bool),
        flash_comm_v1_enabled=False,
    )


@contextmanager
def layers_in(context: Any, group: Recorded, tp: int = 1) -> Iterator[None]:
    """Upstream's layers in this context, on this group."""
    answers = {
        "_EXTRA_CTX": context,
        "get_ascend_config": lambda: SimpleNamespace(multistream_overlap_gate=False),
        "get_dp_group": lambda: group,
        "get_tensor_model_parallel_world_size": lambda: tp,
        "get_tensor_model_parallel_rank": lambda: 0,
        "enable_sp": lambda: False,
        "enable_sp_by_pass": lambda: False,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(prepare_finalize, name, answer))
        yield


@pytest.mark.parametrize("rows", [(3, 1), (1, 5), (4, 4), (2, 7, 1)])
def test_what_experts_gather_is_upstream_s(rows: tuple[int, ...]) -> None:
    group, context = Recorded(len(rows)), context_of(rows, 1)
    with layers_in(context, group):
        config = SimpleNamespace(dp_size=len(rows), dp_group=group, pcp_size=1)
        exchange = prepare_finalize.PrepareAndFinalizeWithAllGather(config)
        gathered = exchange.prepare(torch.zeros(rows[0], 4), torch.zeros(rows[0], 2))
        exchange.finalize(gathered.hidden_states, reduce_results=False)
    kind = {"replays": False, "any_rows": False, "by_pass": False}
    assert group.calls == list(wire.layer(wire.ALL_GATHER, context, rows[0], len(rows), **kind))


@pytest.mark.parametrize(("rows", "tp"), [((3, 9), 1), ((9, 3), 2), ((5, 5), 4)])
def test_the_rows_of_mc2_are_upstream_s(rows: tuple[int, ...], tp: int) -> None:
    context = context_of(rows, tp)
    with layers_in(context, Recorded(len(rows)), tp):
        exchange = prepare_finalize.PrepareAndFinalizeWithMC2(SimpleNamespace())
        sent = exchange.prepare(torch.zeros(rows[0], 4), torch.zeros(rows[0], 2))
    kind = {"replays": False, "any_rows": False, "by_pass": False}
    calls = wire.layer(wire.MC2, context, rows[0], len(rows), **kind)
    assert {call.shape for call in calls} == {(sent.hidden_states.shape[0] * tp,)}
    assert sent.mc2_mask.shape[0] == sent.hidden_states.shape[0]


@pytest.mark.parametrize("rows", [1, 7])
def test_what_a_split_embedding_exchanges_is_upstream_s(rows: int) -> None:
    group = Recorded(3, "embedding")
    layer = SimpleNamespace(
        comm_group=group,
        shard_indices=SimpleNamespace(
            org_vocab_start_index=0,
            org_vocab_end_index=8,
            num_org_vocab_padding=0,
            added_vocab_start_index=8,
            added_vocab_end_index=8,
        ),
        quant_method=SimpleNamespace(embedding=lambda _, ids: torch.zeros(ids.shape[0], 4)),
        tp_size=3,
        embedding_dim=4,
        params_dtype=torch.float32,
    )
    upstream = vocab_parallel_embedding.AscendVocabParallelEmbedding
    layer._get_masked_input_and_mask = lambda *given: upstream._get_masked_input_and_mask(layer, *given)
    with (
        patch.object(utils, "_potential_max_tokens", 16, create=True),
        patch.object(dist, "all_gather_into_tensor", group.all_gather_into),
        patch.object(dist, "reduce_scatter_tensor", group.reduce_scatter_from),
    ):
        upstream._forward_embed_tp(layer, torch.zeros(rows, dtype=torch.int64))
    assert group.calls == list(wire.embedding(16 if THIS.constant_embedding else rows, 3))


@pytest.mark.parametrize("rows", [1, 7])
def test_what_a_split_mlp_exchanges_is_upstream_s(rows: int) -> None:
    group = Recorded(3, "mlp")
    layer = SimpleNamespace(bias=None)
    method, given = SimpleNamespace(apply=lambda _, given, bias: given), torch.zeros(rows, 4)
    with patch.object(linear_op, "get_mlp_tp_group", lambda: group):
        for kind in (linear_op.MLPColumnParallelOp, linear_op.MLPRowParallelOp):
            op = kind(layer)
            op.quant_method, op.input_is_parallel = method, True
            given, _ = op.apply_impl(given)
    assert group.calls == list(groups.mlp(rows, 3))


@pytest.mark.parametrize("rows", [1, 7])
def test_what_a_split_o_proj_exchanges_is_upstream_s(rows: int) -> None:
    group = Recorded(3, "o_proj")
    layer = SimpleNamespace(bias=None, output_size=4)
    with (
        patch.object(linear_op, "get_otp_group", lambda: group),
        patch.object(dist, "all_to_all_single", group.all_to_all_single),
    ):
        op = linear_op.OProjRowParallelOp(layer)
        op.quant_method = SimpleNamespace(apply=lambda _, given, bias: torch.zeros(given.shape[0], 4))
        op.input_is_parallel, op.input_size_per_partition = True, 1
        op.apply_impl(torch.zeros(rows, 3))
    exchanged, reduced = groups.o_proj(rows, 3)
    assert [call.name for call in group.calls] == [exchanged.name, reduced.name]
    assert group.calls[1] == reduced
    assert group.calls[0].shape == (3 * exchanged.shape[0],), "each rank's rows, in as many parts as there are ranks"
