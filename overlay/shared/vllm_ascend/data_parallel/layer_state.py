# SPDX-License-Identifier: Apache-2.0
"""No tensor of one MoE layer outlives it on a communication object.

An eager forward has up to a hundred MoE layers, so that what runs for each must be next to nothing: of an object that
takes tensors on, the names are found once, and only the objects that the layer's step uses are looked at.
"""

from __future__ import annotations

import dis
from functools import cache, wraps
from typing import Any, Callable, Iterator, Optional, TypeVar

import torch
from vllm.forward_context import get_forward_context

from vllm_ascend.data_parallel.moe_comm import MoEComm

Forward = TypeVar("Forward", bound=Callable[..., Any])

_COMM_IMPLS = frozenset(method.value.comm_impl for method in MoEComm) - {None}
# What a communication method may hand its tensors to: both are its own (vllm-ascend 0.10.2 and later).
_PARTS = ("token_dispatcher", "fused_moe_prepare_finalize")
# Where an object keeps what it held before its first forward, and where a layer keeps what it knows of its objects.
_BEFORE, _KNOWN = "_held_before_a_forward", "_objects_of_steps"
# An object, its attributes, and what those held before that may take tensors on.
_Holding = tuple[Any, dict[str, Any], tuple[tuple[str, Any], ...]]


def releases_comm_tensors(forward: Forward) -> Forward:
    """Decorate an MoE layer's forward: communication objects drop the tensors that they took on during it.

    Upstream's communication methods and token dispatchers hand tensors from dispatch to combine as attributes and keep
    them; with one object per layer, every layer's activations stay alive until the next step.
    """

    @wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # a graph frees its own tensors, and what is below cannot be traced
            return forward(*args, **kwargs)
        holdings = _holdings(args[0])
        try:
            return forward(*args, **kwargs)
        finally:
            for holding in holdings:
                _drop(*holding)

    return wrapper  # type: ignore[return-value]


def released(owner: Any) -> Callable[[Forward], Forward]:
    """Decorate a function that uses ``owner`` alone, which then drops the tensors that it took on."""

    def decorate(function: Forward) -> Forward:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return function(*args, **kwargs)
            holding = _holding(owner)
            try:
                return function(*args, **kwargs)
            finally:
                _drop(*holding)

        return wrapper  # type: ignore[return-value]

    return decorate


def _holdings(layer: Any) -> tuple[_Holding, ...]:
    """Of each object that the layer's step uses; found once for each layer, method and dispatcher."""
    try:
        context = get_forward_context().__dict__
    except AssertionError:
        context = {}
    used = context.get("moe_comm_method_name"), context.get("token_dispatcher")
    known = layer.__dict__.get(_KNOWN)
    if known is None:
        known = layer.__dict__[_KNOWN] = {}
    holdings: Optional[tuple[_Holding, ...]] = known.get(used)
    if holdings is None:
        holdings = known[used] = tuple(_holding(owner) for owner in _comm_objects(layer, *used))
    return holdings


def _comm_objects(layer: Any, chosen: Optional[str], dispatcher: Any) -> Iterator[Any]:
    """The communication method of the step with its parts, and the token dispatcher that layers share.

    Where no forward context names a method, as where a layer is tested alone, each of the layer's own.
    """
    for name in _COMM_IMPLS if chosen is None else (chosen,):
        method = layer.__dict__.get(name)
        if method is not None:
            yield method
            parts = method.__dict__
            yield from (parts[part] for part in _PARTS if parts.get(part) is not None)
    if dispatcher is not None:
        yield dispatcher


def _holding(owner: Any) -> _Holding:
    """What ``owner`` held before its first forward, by the names of the attributes that may take tensors on."""
    if _BEFORE not in owner.__dict__:
        names = set(owner.__dict__) | _stored_names(type(owner))  # type: ignore[arg-type]  # a class is hashable
        setattr(owner, _BEFORE, tuple((name, owner.__dict__.get(name)) for name in sorted(names)))
    return owner, owner.__dict__, owner.__dict__[_BEFORE]


@cache
def _stored_names(owner: type) -> frozenset[str]:
    """The attributes that the code of a class and its bases stores, on whatever object."""
    functions = [value for base in owner.__mro__ for value in vars(base).values()]
    codes = [value.__code__ for value in functions if hasattr(value, "__code__")]
    return frozenset(
        step.argval for code in codes for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"
    )


def _drop(owner: Any, held: dict[str, Any], before: tuple[tuple[str, Any], ...]) -> None:
    for name, first in before:
        value = held.get(name)
        if value is not first and value is not None and _holds_tensor(value):
            setattr(owner, name, None if _holds_tensor(first) else first)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    return isinstance(value, torch.Tensor)
