# SPDX-License-Identifier: Apache-2.0
"""No tensor of one MoE layer outlives it on a communication object."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Callable, Iterator, TypeVar

import torch
from vllm.forward_context import get_forward_context

from vllm_ascend.data_parallel.moe_comm import MoEComm

Forward = TypeVar("Forward", bound=Callable[..., Any])

_COMM_IMPLS = frozenset(method.value.comm_impl for method in MoEComm) - {None}
# What a communication method may hand its tensors to: both are its own (vllm-ascend 0.10.2 and later).
_PARTS = ("token_dispatcher", "fused_moe_prepare_finalize")


def releases_comm_tensors(forward: Forward) -> Forward:
    """Decorate an MoE layer's forward: communication objects drop the tensors that they took on during it.

    Upstream's communication methods and token dispatchers hand tensors from dispatch to combine as attributes and keep
    them; with one object per layer, every layer's activations stay alive until the next step.
    """

    @wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for owner in _comm_objects(args[0]):
                stack.enter_context(released(owner))
            return forward(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


@contextmanager
def released(owner: Any) -> Iterator[None]:
    """A block, or the call of a function that this decorates, after which ``owner`` drops the tensors it took on."""
    before = dict(vars(owner))
    try:
        yield
    finally:
        _restore_tensors(owner, before)


def _comm_objects(layer: Any) -> Iterator[Any]:
    """The layer's own communication methods with their parts, and the token dispatcher that layers share."""
    for name in _COMM_IMPLS:
        method = vars(layer).get(name)
        if method is not None:
            yield method
            yield from (vars(method)[part] for part in _PARTS if vars(method).get(part) is not None)
    try:
        dispatcher = getattr(get_forward_context(), "token_dispatcher", None)
    except AssertionError:  # no forward context, as where a layer is tested alone
        return
    if dispatcher is not None:
        yield dispatcher


def _restore_tensors(owner: Any, before: dict[str, Any]) -> None:
    for name, value in list(vars(owner).items()):
        if _holds_tensor(value) and value is not before.get(name):
            setattr(owner, name, None if _holds_tensor(before.get(name)) else before.get(name))


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    return isinstance(value, torch.Tensor)
