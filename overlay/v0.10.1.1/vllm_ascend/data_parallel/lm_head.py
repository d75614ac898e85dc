# SPDX-License-Identifier: Apache-2.0
"""Upstream's logits processor, where vLLM offers no way to register it."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable

from vllm.model_executor.layers.logits_processor import LogitsProcessor


def install_logits_processor(replacement: type[LogitsProcessor]) -> None:
    """Give vLLM's ``LogitsProcessor`` the methods that ``replacement`` defines, unless vLLM can replace the class.

    Up to vLLM 0.10.1.1 it is a plain module and not a ``CustomOp``: registering another one for it is accepted and has
    no effect. A parallel lm head then computes its part of the vocabulary and nobody gathers the rest.
    """
    if not hasattr(LogitsProcessor, "register_oot"):
        for name, method in vars(replacement).items():
            if callable(method):
                setattr(LogitsProcessor, name, _unless_whole(method) if name == "_get_logits" else method)


def _unless_whole(get_logits: Callable[..., Any]) -> Callable[..., Any]:
    """A head that is the embedding too is not split: to gather rows would compute every rank's on each of the group."""

    @wraps(get_logits)
    def chosen(processor: Any, hidden_states: Any, lm_head: Any, embedding_bias: Any = None) -> Any:
        if lm_head.weight.shape[0] == lm_head.num_embeddings_padded:
            return processor._get_logits_normal(hidden_states, lm_head, embedding_bias)
        return get_logits(processor, hidden_states, lm_head, embedding_bias)

    return chosen
