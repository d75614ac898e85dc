# SPDX-License-Identifier: Apache-2.0
"""No tensor of one MoE layer outlives it on a communication object.

An eager forward has up to a hundred MoE layers, so that what runs for each must be next to nothing: of an object that
takes tensors on, the names are found once, and only the objects that the layer's step uses are looked at.
"""

from __future__ import annotations

import dis
from functools import cache, wraps
from typing import Any, Callable, Iterator, TypeVar

import torch
from vllm.forward_context import get_forward_context

from vllm_ascend.data_parallel.moe_comm import MoEComm

Forward = TypeVar("Forward", bound=Callable[..., Any])

_COMM_IMPLS = frozenset(method.value.comm_impl for method in MoEComm) - {None}
# What a communication method may hand its tensors to: both are its own (vllm-ascend 0.10.2 and later).
_PARTS = ("token_dispatcher", "fused_moe_prepare_finalize")
# Where an object keeps what it held before its first forward, by the names of the attributes that may take tensors on.
_BEFORE = "_held_before_a_forward"


def releases_comm_tensors(forward: Forward) -> Forward:
    """Decorate an MoE layer's forward: communication objects drop the tensors that they took on during it.

    Upstream's communication methods and token dispatchers hand tensors from dispatch to combine as attributes and keep
    them; with one object per layer, every layer's activations stay alive until the next step.
    """

    @wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        owners = list(_comm_objects(args[0]))
        for owner in owners:
            if _BEFORE not in owner.__dict__:
                _remember(owner)
        try:
            return forward(*args, **kwargs)
        finally:
            for owner in owners:
                _drop(owner)

    return wrapper  # type: ignore[return-value]


def released(owner: Any) -> Callable[[Forward], Forward]:
    """Decorate a function that uses ``owner`` alone, which then drops the tensors that it took on."""

    def decorate(function: Forward) -> Forward:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if _BEFORE not in owner.__dict__:
                _remember(owner)
            try:
                return function(*args, **kwargs)
            finally:
                _drop(owner)

        return wrapper  # type: ignore[return-value]

    return decorate


def _comm_objects(layer: Any) -> Iterator[Any]:
    """The communication method of the step with its parts, and the token dispatcher that layers share.

    Where no forward context names a method, as where a layer is tested alone, each of the layer's own.
    """
    try:
        context = get_forward_context().__dict__
    except AssertionError:
        context = {}
    chosen = context.get("moe_comm_method_name")
    for name in _COMM_IMPLS if chosen is None else (chosen,):
        method = layer.__dict__.get(name)
        if method is not None:
            yield method
            parts = method.__dict__
            yield from (parts[part] for part in _PARTS if parts.get(part) is not None)
    dispatcher = context.get("token_dispatcher")
    if dispatcher is not None:
        yield dispatcher


def _remember(owner: Any) -> None:
    names = set(owner.__dict__) | _stored_names(type(owner))  # type: ignore[arg-type]  # a class is hashable
    setattr(owner, _BEFORE, {name: owner.__dict__.get(name) for name in sorted(names)})


@cache
def _stored_names(owner: type) -> frozenset[str]:
    """The attributes that the code of a class and its bases stores, on whatever object."""
    functions = [value for base in owner.__mro__ for value in vars(base).values()]
    codes = [value.__code__ for value in functions if hasattr(value, "__code__")]
    return frozenset(
        step.argval for code in codes for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"
    )


def _drop(owner: Any) -> None:
    held = owner.__dict__
    for name, before in held[_BEFORE].items():
        value = held.get(name)
        if value is not None and value is not before and _holds_tensor(value):
            setattr(owner, name, None if _holds_tensor(before) else before)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    return isinstance(value, torch.Tensor)
