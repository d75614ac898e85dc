# SPDX-License-Identifier: Apache-2.0
"""No tensor of one MoE layer outlives it on a communication object."""

from __future__ import annotations

from functools import wraps
from itertools import chain
from typing import Any, Callable, Iterator, TypeVar

import torch

from vllm_ascend.data_parallel.moe_comm import MoEComm

Forward = TypeVar("Forward", bound=Callable[..., Any])

# Each name once: two methods share a dispatcher.
_COMM_IMPLS = frozenset(method.value.comm_impl for method in MoEComm) - {None}
_TOKEN_DISPATCHERS = frozenset(method.value.token_dispatcher for method in MoEComm) - {None}


def releases_comm_tensors(forward: Forward) -> Forward:
    """Decorate an MoE layer's forward: communication objects drop the tensors that they took on during it.

    Upstream's communication methods and token dispatchers hand tensors from dispatch to combine as attributes and keep
    them; with one object per layer, every layer's activations stay alive until the next step.
    """

    @wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        layer = args[0]
        before = [(owner, dict(vars(owner))) for owner in _comm_objects(layer)]
        try:
            return forward(*args, **kwargs)
        finally:
            for owner, attributes in before:
                _restore_tensors(owner, attributes)

    return wrapper  # type: ignore[return-value]


def _comm_objects(layer: Any) -> Iterator[Any]:
    """The layer's own communication methods, and the token dispatchers that layers share."""
    # Imported late: the dispatchers' module is one of upstream's ops, which import this one.
    from vllm_ascend.ops.moe_dispatcher.token_dispatcher import get_token_dispatcher

    own = (vars(layer).get(name) for name in _COMM_IMPLS)
    shared = (get_token_dispatcher(name) for name in _TOKEN_DISPATCHERS)
    yield from (owner for owner in chain(own, shared) if owner is not None)


def _restore_tensors(owner: Any, before: dict[str, Any]) -> None:
    for name, value in list(vars(owner).items()):
        if _holds_tensor(value) and value is not before.get(name):
            setattr(owner, name, None if _holds_tensor(before.get(name)) else before.get(name))


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    return isinstance(value, torch.Tensor)
