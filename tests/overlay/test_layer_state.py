# SPDX-License-Identifier: Apache-2.0
"""After a layer's forward, its communication objects hold what they held before."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import forward_context

from vllm_ascend.data_parallel import layer_state
from vllm_ascend.data_parallel.layer_state import released, releases_comm_tensors


class Holder:
    """A communication object: one tensor for good, the others for a forward."""

    def __init__(self) -> None:
        self.expert_ids = torch.arange(4)
        self.topk_ids: torch.Tensor | None = None
        self.splits: list[int] | None = None
        self.token_dispatcher: Holder | None = None

    def hold(self, kept: torch.Tensor, parts: list[torch.Tensor]) -> None:
        """As upstream's do, on attributes that ``__init__`` does not know."""
        self.topk_ids, self.split_hidden_states, self.splits = kept, tuple(parts), [1, 2]


class Layer:
    """An MoE layer that leaves tensors on its communication objects."""

    def __init__(self, dispatcher: Holder) -> None:
        self.allgathercommimpl = Holder()
        self.allgathercommimpl.token_dispatcher = Holder()
        self.dispatcher = dispatcher
        self.seen: list[weakref.ref[torch.Tensor]] = []

    @releases_comm_tensors
    def forward(self, x: torch.Tensor, fail: bool = False) -> torch.Tensor:
        for owner in (self.allgathercommimpl, self.allgathercommimpl.token_dispatcher, self.dispatcher):
            kept, parts = x + 1, [x + 2, x + 3]
            self.seen += [weakref.ref(one) for one in (kept, *parts)]
            owner.hold(kept, parts)
        if fail:
            raise ArithmeticError
        return x


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    dispatcher = Holder()
    monkeypatch.setattr(forward_context, "_forward_context", SimpleNamespace(token_dispatcher=dispatcher))
    return Layer(dispatcher)


@pytest.mark.parametrize("fail", [False, True])
def test_the_tensors_of_a_forward_die_with_it(layer: Layer, fail: bool) -> None:
    if fail:
        with pytest.raises(ArithmeticError):
            layer.forward(torch.ones(3), fail=True)
    else:
        assert layer.forward(torch.ones(3)).tolist() == [1, 1, 1]
    gc.collect()
    assert len(layer.seen) == 9
    assert not any(one() is not None for one in layer.seen)


def test_what_was_there_before_stays(layer: Layer) -> None:
    owner: Any = layer.dispatcher
    ids = owner.expert_ids
    layer.forward(torch.ones(3))
    assert owner.expert_ids is ids
    assert owner.topk_ids is None
    assert owner.splits == [1, 2]


def test_only_what_the_step_uses_is_looked_at(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the methods that a layer has, one runs: 94 layers must not pay for the others."""
    looked: list[Any] = []
    monkeypatch.setattr(layer_state, "_drop", lambda owner, *_: looked.append(owner))
    context = SimpleNamespace(token_dispatcher=layer.dispatcher, moe_comm_method_name="allgathercommimpl")
    monkeypatch.setattr(forward_context, "_forward_context", context)
    layer.mc2commimpl = Holder()  # type: ignore[attr-defined]
    layer.forward(torch.ones(3))
    used = (layer.allgathercommimpl, layer.allgathercommimpl.token_dispatcher, layer.dispatcher)
    assert list(map(id, looked)) == list(map(id, used))


def test_another_step_uses_other_objects(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer knows of its objects is known for each kind of step."""
    layer.forward(torch.ones(3))
    layer.dispatcher, layer.seen = Holder(), []
    monkeypatch.setattr(forward_context, "_forward_context", SimpleNamespace(token_dispatcher=layer.dispatcher))
    layer.forward(torch.ones(3))
    assert not any(one() is not None for one in layer.seen)


def test_objects_and_names_are_found_once(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    layer.forward(torch.ones(3))
    monkeypatch.setattr(layer_state, "_holding", lambda owner: pytest.fail(f"{owner} is looked for again"))
    layer.forward(torch.ones(3))


def test_one_object_alone() -> None:
    holder, seen = Holder(), []

    def dispatch(x: torch.Tensor) -> torch.Tensor:
        holder.topk_ids = x + 1
        seen.append(weakref.ref(holder.topk_ids))
        return x

    assert released(holder)(dispatch)(torch.ones(3)).tolist() == [1, 1, 1]
    assert holder.topk_ids is None
    assert seen[0]() is None


class Experts(torch.nn.Module):
    """A layer whose dispatcher keeps a tensor from dispatch to combine."""

    def __init__(self, dispatcher: Holder) -> None:
        super().__init__()
        self.allgathercommimpl = dispatcher

    @releases_comm_tensors
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.allgathercommimpl.topk_ids = x + 1
        return x + self.allgathercommimpl.topk_ids


@pytest.mark.parametrize("eager_before", [False, True])
def test_a_layer_is_traced_in_one_graph(monkeypatch: pytest.MonkeyPatch, eager_before: bool) -> None:
    """As TorchAir traces Pangu's and Qwen's, whose model calls the layer's forward itself."""
    monkeypatch.setattr(forward_context, "_forward_context", SimpleNamespace(moe_comm_method_name="allgathercommimpl"))
    layer, x = Experts(Holder()), torch.arange(4.0)
    torch._dynamo.reset()
    if eager_before:
        layer(x)
    traced = torch.compile(layer, fullgraph=True, dynamic=True, backend="eager")
    assert torch.equal(traced(x), 2 * x + 1)
