# SPDX-License-Identifier: Apache-2.0
"""The collectives that the simulator has for a MoE layer against those of upstream's real layers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from vllm.forward_context import DPMetadata

from simulation.network import Call
from simulation.until_0_11 import wire
from simulation.until_0_11.releases import THIS

EXCHANGE = importlib.import_module(THIS.exchange)
CUSTOM = importlib.import_module(THIS.custom_layer[0])


class Recorded:
    """A group that records what is asked of it, and answers with the right shapes."""

    def __init__(self, size: int) -> None:
        self.world_size, self.rank_in_group, self.calls = size, 0, []

    def _record(self, name: str, tensor: torch.Tensor) -> None:
        self.calls.append(Call("dp device", name, (tensor.shape[0],)))

    def all_gather(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        self._record("all_gather", tensor)
        return torch.cat([tensor] * self.world_size, dim)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        self._record("all_reduce", tensor)
        return tensor

    def reduce_scatter(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        self._record("reduce_scatter", tensor)
        return tensor[: tensor.shape[0] // self.world_size]

    def broadcast(self, tensor: torch.Tensor, root: int) -> None:
        self._record(f"broadcast from {root}", tensor)


def context_of(rows: tuple[int, ...], tp: int) -> Any:
    """What a forward context says of a step with these rows."""
    parallel = SimpleNamespace(data_parallel_size=len(rows), data_parallel_rank=0)
    return SimpleNamespace(
        max_tokens_across_dp=max(rows),
        padded_num_tokens=-(-max(rows) // tp) * tp,
        mc2_mask=torch.zeros(-(-max(rows) // tp) * tp, dtype=torch.bool),
        dp_metadata=DPMetadata.make(parallel, None, rows[0], torch.tensor(rows, dtype=torch.int32)),
    )


@contextmanager
def layers_in(context: Any, group: Recorded) -> Iterator[None]:
    """Upstream's layers in this context, on this group."""
    answers = {
        "get_forward_context": lambda: context,
        "get_dp_group": lambda: group,
        "data_parallel_reduce_scatter": group.reduce_scatter,
        "enable_sp": lambda: False,
    }
    with ExitStack() as stack:
        for module in (EXCHANGE, CUSTOM):
            for name, answer in answers.items():
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, answer))
        yield


def generic(method: str) -> Any:
    """The class by which a release's generic layers exchange rows; None where it has none."""
    names = (f"{method}CommImpl", f"FusedMoEPrepareAndFinalizeWith{method}")
    return next((getattr(EXCHANGE, name) for name in names if hasattr(EXCHANGE, name)), None)


if THIS.generic_layers_choose:

    @pytest.mark.parametrize("rows", [(3, 1), (1, 5), (4, 4), (2, 7, 1)])
    @pytest.mark.parametrize("method", [name for name in (wire.ALL_GATHER, wire.NAIVE_MULTICAST) if generic(name)])
    def test_what_a_generic_layer_exchanges_is_upstream_s(method: str, rows: tuple[int, ...]) -> None:
        group, context = Recorded(len(rows)), context_of(rows, 1)
        config = SimpleNamespace(dp_size=len(rows), dp_rank=0, tp_size=1, ep_size=1, dp_group=group)
        with layers_in(context, group):
            exchange = generic(method)(config)
            hidden, *_ = exchange.prepare(torch.zeros(rows[0], 4), torch.zeros(rows[0], 2))
            exchange.finalize(hidden, reduce_results=False)
        assert group.calls == list(wire.layer(method, context, rows[0], len(rows)))


else:

    @pytest.mark.parametrize("rows", [(3, 1), (1, 5), (4, 4), (2, 7, 1)])
    def test_what_a_generic_layer_broadcasts_is_vllm_s(rows: tuple[int, ...]) -> None:
        group, context = Recorded(len(rows)), context_of(rows, 1)
        exchange = EXCHANGE.NaiveAll2AllManager.__new__(EXCHANGE.NaiveAll2AllManager)
        exchange.dp_group, exchange.dp_rank, exchange.dp_world_size = group, 0, len(rows)
        with layers_in(context, group):
            hidden, _ = exchange.dispatch(torch.zeros(rows[0], 4), torch.zeros(rows[0], 2))
            assert exchange.combine(hidden).shape[0] == rows[0]
        assert group.calls == list(wire.layer(wire.NAIVE_MULTICAST, context, rows[0], len(rows)))


if THIS.sequence_parallel:

    @pytest.mark.parametrize(("rows", "tp"), [((3, 1), 2), ((1, 5), 4), ((4, 4), 2)])
    def test_what_a_generic_layer_gathers_of_split_rows_is_upstream_s(rows: tuple[int, ...], tp: int) -> None:
        context, group = context_of(rows, tp), Recorded(len(rows) * tp)
        context.sp_enabled, context.padded_length = True, context.padded_num_tokens
        config = SimpleNamespace(dp_size=len(rows), dp_rank=0, tp_size=tp, ep_size=1, dp_group=None)
        sequence = importlib.import_module("vllm_ascend.ops.register_custom_ops")
        dp_group = Recorded(len(rows))
        with (
            patch.object(EXCHANGE, "enable_sp", lambda: True),
            patch.object(sequence, "get_forward_context", lambda: context),
            patch.object(sequence, "get_ep_group", lambda: group),
            patch.object(sequence, "get_dp_group", lambda: dp_group),
        ):
            exchange = generic(wire.ALL_GATHER)(config)
            split = context.padded_length // tp
            hidden, *_ = exchange.prepare(torch.zeros(split, 4), torch.zeros(split, 2))
            assert hidden.shape[0] == sum(rows)
            exchange.finalize(hidden, reduce_results=False)
        expected = list(wire.layer(wire.ALL_GATHER, context, rows[0], len(rows)))
        # The group is that of every device; the calls name the rows of a DP rank.
        asked = [(call.name, call.shape[0] * (tp if call.name == "all_gather" else 1)) for call in group.calls]
        assert asked == [(call.name, *call.shape) for call in expected]


@pytest.mark.parametrize("rows", [(3, 1), (1, 5), (2, 7, 1)])
def test_the_naive_multicast_of_a_custom_layer_is_upstream_s(rows: tuple[int, ...]) -> None:
    group, context = Recorded(len(rows)), context_of(rows, 1)
    layer, ends = SimpleNamespace(dp_rank=0, dp_size=len(rows)), torch.cumsum(torch.tensor(rows), 0)
    with layers_in(context, group):
        for columns in (4, 2):  # hidden states, then router logits
            multicast = getattr(CUSTOM, THIS.custom_layer[1]).naive_multicast
            gathered = multicast(layer, torch.zeros(rows[0], columns), ends)
    assert gathered.shape[0] == sum(rows)
    expected = list(wire.layer(wire.NAIVE_MULTICAST, context, rows[0], len(rows)))
    assert group.calls == expected[:-1]
    assert expected[-1] == Call("dp device", "all_reduce", (sum(rows),))


if THIS.generic_layers_choose:

    @pytest.mark.parametrize(("rows", "tp"), [((3, 9), 1), ((9, 3), 2), ((5, 5), 4)])
    @pytest.mark.parametrize("method", [name for name in (wire.MC2,) if generic(name)])
    def test_the_rows_of_mc2_in_a_generic_layer_are_upstream_s(method: str, rows: tuple[int, ...], tp: int) -> None:
        context = context_of(rows, tp)
        exchange = generic(method).__new__(generic(method))
        exchange.tp_size, exchange.tp_rank = tp, 0
        with layers_in(context, Recorded(len(rows))):
            hidden, _, *mask = exchange.prepare(torch.zeros(rows[0], 4), torch.zeros(rows[0], 2))
        sent = {call.shape for call in wire.layer(wire.MC2, context, rows[0], len(rows))}
        assert sent == {(hidden.shape[0] * tp,)}
        (mask,) = mask or [exchange.mc2_mask]
        assert mask.shape[0] == hidden.shape[0]
