# SPDX-License-Identifier: Apache-2.0
"""Upstream's logits processor, where vLLM offers no way to register it."""

from __future__ import annotations

from vllm.model_executor.layers.logits_processor import LogitsProcessor


def install_logits_processor(replacement: type[LogitsProcessor]) -> None:
    """Give vLLM's ``LogitsProcessor`` the methods that ``replacement`` defines, unless vLLM can replace the class.

    Up to vLLM 0.10.1.1 it is a plain module and not a ``CustomOp``: registering another one for it is accepted and has
    no effect. A parallel lm head then computes its part of the vocabulary and nobody gathers the rest.
    """
    if not hasattr(LogitsProcessor, "register_oot"):
        for name, method in vars(replacement).items():
            if callable(method):
                setattr(LogitsProcessor, name, method)
