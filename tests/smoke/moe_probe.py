# SPDX-License-Identifier: Apache-2.0
"""Reports, for every mixture-of-experts layer that a rank computes, what its communication did.

One line a layer, outside of graph replays, which run no Python::

    {"moe": family, "profile": bool, "capturing": bool, "with_prefill": bool, "method": name, "rows": n,
     "experts": [tokens routed to each expert], "kept": [routing tensors that outlive the layer]}

A graph that is being captured holds its tensors: ``experts`` and ``kept`` are empty then. ``family`` is "generic" for
vLLM's FusedMoE layers, which look up a communication object, and "custom" for vllm-ascend's own, which branch on a
state. ``rows`` are those that the layer was given, before any communication. Generic layers of vllm-ascend 0.10.0 are
vLLM's own, which broadcast their rows.
"""

import functools
import gc
import importlib
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar

Report = Callable[..., None]

_MOMENT = 5.0  # seconds: far longer than a thread takes to let a tensor go

# Module, family and method of each release's layers.
_LAYERS = (
    ("common_fused_moe", "generic", "forward_impl"),
    ("fused_moe", "custom", "forward"),
    ("fused_moe.fused_moe", "generic", "forward_impl"),
)


def install(report: Report) -> None:
    """Wraps the two families of layers of the vllm_ascend on the import path; call before an engine is made."""
    from vllm.model_executor.layers.fused_moe import FusedMoE

    routings: list[_Routing] = []
    for name, family, method in _LAYERS:
        with suppress(ModuleNotFoundError):  # each release has some of them
            module = importlib.import_module(f"vllm_ascend.ops.{name}")
            if not hasattr(module, "select_experts"):
                continue  # a package of that name
            module.select_experts = _watched(module.select_experts, routings)
            layer = getattr(module, "AscendFusedMoE", FusedMoE)
            setattr(layer, method, _reported(getattr(layer, method), family, routings, report))
    for name in ("moe", "fused_moe"):
        with suppress(ModuleNotFoundError, AttributeError):
            module = importlib.import_module(f"vllm_ascend.ops.{name}.moe_comm_method")
            module.MoECommMethod.fused_experts = _routed(module.MoECommMethod.fused_experts, routings)


class _Routing:
    """Which experts a layer's rows go to, and whether the tensors that say so are still alive."""

    _ever_held: ClassVar[set[str]] = set()

    def __init__(self, weights: Any, experts: Any, num_experts: int) -> None:
        self.histogram: list[int] = []
        self._num_experts = num_experts
        self._alive = {"topk_weights": weakref.ref(weights), "topk_ids": weakref.ref(experts)}
        self.go_to(experts)

    def go_to(self, experts: Any) -> None:
        """Counts the rows by expert: those selected, or others that the layer sends them to instead."""
        import torch

        if not torch.npu.is_current_stream_capturing():
            # Not to be seen by the stand-in's trace: this read is the test's, not the engine's.
            with torch._C.DisableTorchFunction():
                self.histogram = torch.bincount(experts.flatten().long(), minlength=self._num_experts).tolist()

    def kept(self) -> list[str]:
        """The tensors that an object of Python's holds, and goes on to: a thread may hold one a moment longer."""
        end = time.monotonic() + _MOMENT
        while (held := self._held()) - self._ever_held and time.monotonic() < end:
            time.sleep(0.05)
        self._ever_held.update(held)
        return sorted(held)

    def _held(self) -> set[str]:
        if all(one() is None for one in self._alive.values()):
            return set()
        gc.collect(1)  # what a cycle may still hold; the old generation is large, and none of this is in it
        return {name for name, one in self._alive.items() if self._has_holder(name, one())}

    def _has_holder(self, name: str, tensor: Any) -> bool:
        """Whether an object holds a tensor: asked once a name, since it costs a look at every object."""
        if tensor is None or name in self._ever_held:
            return tensor is not None
        return not all(isinstance(holder, FrameType) for holder in gc.get_referrers(tensor))


def _watched(select_experts: Any, routings: list[_Routing]) -> Any:
    @functools.wraps(select_experts)
    def call(*args: Any, **kwargs: Any) -> Any:
        found = select_experts(*args, **kwargs)
        routings.append(_Routing(found[0], found[1], kwargs["router_logits"].shape[-1]))
        return found

    return call


def _routed(fused_experts: Any, routings: list[_Routing]) -> Any:
    @functools.wraps(fused_experts)
    def call(*args: Any, **kwargs: Any) -> Any:
        if routings:
            given = kwargs.get("fused_experts_input")
            routings[-1].go_to(kwargs["topk_ids"] if given is None else given.topk_ids)
        return fused_experts(*args, **kwargs)

    return call


def _reported(forward: Any, family: str, routings: list[_Routing], report: Report) -> Any:
    @functools.wraps(forward)
    def call(layer: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        import torch
        from vllm.distributed import get_ep_group
        from vllm.forward_context import get_forward_context

        rows = hidden_states.shape[0]
        routings.clear()
        result = forward(layer, hidden_states, *args, **kwargs)
        context = get_forward_context()
        exchange = getattr(context, "moe_comm_method", get_ep_group().device_communicator)
        generic = type(exchange).__name__.removesuffix("CommImpl") if family == "generic" else None
        capturing = torch.npu.is_current_stream_capturing()
        (routing,) = routings
        routings.clear()
        report(
            moe=family,
            profile=context.in_profile_run,
            capturing=capturing,
            with_prefill=getattr(context, "with_prefill", None),
            method=generic or context.fused_moe_state.name,
            rows=rows,
            experts=routing.histogram,
            kept=[] if capturing else routing.kept(),
        )
        return result

    return call
